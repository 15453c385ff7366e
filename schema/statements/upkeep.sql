-- name: extend_archive
-- takes: days integer
-- gives: made integer
select :"schema".extend_archive($1) as made;
