-- What was decided for all of Heed, and who belongs to whom: the topic `registry` as tables.

create table {data}.rule (
    only_one bool primary key default true check (only_one),
    period_months int not null check (period_months between 1 and 1200),
    keep_row_without_clicks bool not null
);
comment on table {data}.rule is 'The settings that a row depends on (CEE-6, CEE-7), as the registry has them; until it has, as the environment had when the tables were made.';

create table {data}.registry (
    subject text collate "C" not null,
    key uuid not null,
    source text collate "C" not null,
    id text collate "C" not null,
    type text not null,
    time timestamptz not null,
    version smallint not null,
    digest uuid not null,
    accepted timestamptz not null,
    actor text,
    off bigint not null,
    target text collate "C",
    undoes uuid,
    data jsonb not null,
    primary key (subject, key)
);
-- Most subjects are told of once, some thousands of times: plans are to hold for those, whatever the table
-- was like when it was last analysed.
alter table {data}.registry alter column subject set (n_distinct = -0.05);
create index registry_by_target on {data}.registry (target) where target is not null;
-- A session may be linked with every visit: the link that holds is the first found, and so is an undo of it.
create index registry_by_link on {data}.registry (subject, time desc, id desc, source desc)
    include (key, target) where target is not null;
create index registry_by_undo on {data}.registry (subject, undoes) where undoes is not null;
create index registry_by_type on {data}.registry (type, subject, time desc, id desc, source desc);
comment on table {data}.registry is 'Every fact of the topic registry, once for ever, as in fact. Of several about one subject the latest by (time, id) holds.';

-- What a setting was at an instant: the latest word on it, by (time, id); null where nothing was said.
create function {data}.setting_at(name text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    select r.data->>'value' from {data}.registry r
    where r.type = 'setting.changed' and r.subject = 'setting:' || name and r.time <= upto
    order by r.time desc, r.id desc, r.source desc limit 1;
end;

-- The rule at an instant. Now is a table's one row, so that the fold pays nothing for the past.
create function {data}.rule_at(upto timestamptz)
returns table (period_months int, keep_row_without_clicks bool)
language sql stable parallel safe
begin atomic
    select r.period_months, r.keep_row_without_clicks from {data}.rule r where upto = 'infinity'
    union all
    select coalesce({data}.setting_at('engagement_period_months', upto)::int, r.period_months),
        coalesce({data}.setting_at('keep_row_without_clicks', upto)::bool, r.keep_row_without_clicks)
    from {data}.rule r where upto <> 'infinity';
end;
comment on column {data}.registry.target is 'Of a link: the contact that the subject is linked to, as a subject.';
comment on column {data}.registry.undoes is 'Of an undo: the key of the link of the same subject that it takes back.';

create index registry_by_primary on {data}.registry (target, time desc)
    where type = 'identifier.linked' and data->>'primary' = 'true';

create table {data}.member (
    subject text collate "C" primary key,
    root text collate "C" not null,
    home smallint not null
);
create index member_by_root on {data}.member (root);
create table {data}.set_member (
    member text collate "C",
    subject text collate "C",
    rank smallint not null,
    primary key (member, subject)
);
create index set_member_by_set on {data}.set_member (subject, rank);
comment on table {data}.set_member is 'Sets of identifiers that facts are told of: who is in them, in the order in which they are asked for a contact (IDN-3).';

comment on table {data}.member is 'Subjects that belong to another contact now: subject to root, flat; home is the root''s.';

create table {data}.erased (
    subject text collate "C" primary key,
    erased_at timestamptz not null default clock_timestamp()
);
create index erased_by_time on {data}.erased (erased_at);
comment on table {data}.erased is 'Subjects that are erased for ever (LAW-6): no fact of theirs is kept, and no link that names one holds.';

-- Whom a subject was linked to at an instant: the latest of its links that nothing undid; null if there is
-- none (IDN-4). Undone is what is named, whichever of the two was told first. `offset 0` keeps the planner
-- at asking link by link, the latest first, however many a subject has.
create function {data}.link_at(linked text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    select l.target from {data}.registry l
    where l.subject = linked and l.target is not null and l.time <= upto
        and not exists (select from {data}.registry u
            where u.subject = linked and u.undoes = l.key and u.time <= upto offset 0)
    order by l.time desc, l.id desc, l.source desc limit 1;
end;

-- Whose a contact or a session was at an instant: the end of its links, or the smallest id of the cycle that
-- they end in.
-- The mark is moved after 1, 2, 4, ... steps: a cycle is found in a few rounds, however long the way to it.
create function {data}.contact_at(linked text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    with recursive walk(n, place, mark, steps, most, around) as (
        select 0, linked collate "C", linked collate "C", 0, 1, false
        union all
        select w.n + 1, f.place, case when w.steps + 1 = w.most then f.place else w.mark end,
            case when w.steps + 1 = w.most then 0 else w.steps + 1 end,
            case when w.steps + 1 = w.most then w.most * 2 else w.most end, f.place = w.mark
        from walk w
        cross join lateral (select {data}.link_at(w.place, upto) collate "C" as place) f
        where f.place is not null and not w.around
    ), last as (
        select w.place, w.around from walk w order by w.n desc limit 1
    ), cycle(place) as (
        select l.place from last l where l.around
        union
        select {data}.link_at(c.place, upto) collate "C" from cycle c
    )
    select coalesce((select min(c.place collate "C") from cycle c), (select l.place from last l));
end;

-- Of an address of a contact's whether it was the primary one: the latest by (time, id) that was told so.
create function {data}.primary_at(contact text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    select p.subject from {data}.registry p
    where p.target = contact and p.type = 'identifier.linked' and p.data->>'primary' = 'true'
        and p.time <= upto
        and not exists (select from {data}.registry u
            where u.subject = p.subject and u.undoes = p.key and u.time <= upto offset 0)
    order by p.time desc, p.data->'told'->>'id' collate "C" desc, p.source desc, p.subject limit 1;
end;

-- The contacts that an identifier was linked to at an instant, as they were told of; and whether it was the
-- primary address of each.
create function {data}.holders_at(identifier text, upto timestamptz)
returns table (contact text, is_primary bool)
language sql stable parallel safe
begin atomic
    select h.target, h.primary and {data}.primary_at(h.target, upto) = identifier
    from (
        select l.target, bool_or(coalesce(l.data->>'primary' = 'true', false)) as primary
        from {data}.registry l
        where l.subject = identifier and l.target is not null and l.time <= upto
            and not exists (select from {data}.registry u
                where u.subject = identifier and u.undoes = l.key and u.time <= upto offset 0)
        group by l.target
    ) h;
end;

-- Whose a contact, a session or an identifier was at an instant; itself where it was nobody's. An identifier
-- is the primary owner's, else its holders'; of several the one with the smallest id (IDN-3).
create function {data}.owner_at(told text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    select case when starts_with(told, 'contact:') or starts_with(told, 'session:')
        then {data}.contact_at(told, upto)
        else coalesce((
            select coalesce(min(r.root) filter (where h.is_primary), min(r.root))
            from {data}.holders_at(told, upto) h
            cross join lateral (select {data}.contact_at(h.contact, upto) collate "C" as root) r), told) end;
end;

-- Whose any subject was at an instant: a set is its first member's that was a contact's.
create function {data}.root_at(linked text, upto timestamptz) returns text
language sql stable parallel safe
begin atomic
    select case when starts_with(linked, 'set:') then coalesce((
            select o.root from {data}.set_member s
            cross join lateral (select {data}.owner_at(s.member, upto) as root offset 0) o
            where s.subject = linked and starts_with(o.root, 'contact:') order by s.rank limit 1), linked)
        else {data}.owner_at(linked, upto) end;
end;

-- Whatever belonged to a root at an instant, the root itself included.
create function {data}.members_at(root text, upto timestamptz) returns setof text
language sql stable parallel safe
begin atomic
    with recursive below(subject) as (
        select members_at.root collate "C"
        union
        select l.subject from below b
        join {data}.registry l on l.target = b.subject
        where l.type <> 'identifier.linked' and l.time <= upto
            and case when exists (select from {data}.registry u  -- the cheaper first
                where u.subject = l.subject and u.undoes = l.key and u.time <= upto offset 0) then false
            else {data}.link_at(l.subject, upto) = b.subject end
    )
    select b.subject from below b
    union all
    select i.subject from (
        select distinct l.subject from below b join {data}.registry l on l.target = b.subject
        where l.type = 'identifier.linked' and l.time <= upto
    ) i
    where {data}.owner_at(i.subject, upto) = members_at.root
    union all
    select s.subject from (
        select distinct m.subject from (
            select b.subject from below b
            union all
            select l.subject from below b join {data}.registry l on l.target = b.subject
            where l.type = 'identifier.linked' and l.time <= upto
        ) one
        join {data}.set_member m on m.member = one.subject
    ) s
    where {data}.root_at(s.subject, upto) = members_at.root;
end;
