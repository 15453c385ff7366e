-- name: extend_archive
-- takes: days integer
-- gives: made integer
select :"schema".extend_archive($1) as made;

-- name: applied_migrations
-- takes:
-- gives: name text
select name from :"schema".migration order by name;
