-- Before PostgreSQL 17 a block with `exception` cannot begin inside a parallel plan: "cannot start subtransactions during a parallel
-- operation". What calls these must have none.
alter function :"schema".text_at(json, text[]) parallel unsafe;
alter function :"schema".job_meant(jsonb, text, text, text, jsonb, json, json) parallel unsafe;
