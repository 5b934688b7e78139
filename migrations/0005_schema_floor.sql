-- Two versions on one database: during a rolling upgrade the older binary goes on while the newer one has migrated.
-- A migration that only adds (expand) leaves the floor alone. One that takes away (contract) raises it to the newest
-- migration that a binary must know to work without what is gone, and comes at least one release after the expansion.

create table schema_floor (
  only_row  boolean primary key default true check (only_row),
  migration bigint not null
);
comment on table  schema_floor           is 'Which binaries this schema still serves. One row.';
comment on column schema_floor.only_row  is 'Keeps it one row.';
comment on column schema_floor.migration is 'A binary works here if the newest migration that it knows is this one or a later one.';

insert into schema_floor (migration) values (5);
