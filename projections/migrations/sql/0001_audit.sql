-- The audit log (ACT-2): what held before a change that somebody made, and what with it. Nothing of it is
-- kept: it follows from the facts of the registry in the order of (time, id), so it is the same in every
-- order of arrival, and what is told late takes its place.

create index registry_by_actor on {data}.registry (time desc, id desc, source desc, subject desc)
    where actor is not null;

-- Whom a subject was linked to by what was told up to a fact, this one included, unless it is the one that is
-- left out: as link_at, which ends at an instant.
create function {data}.link_with(linked text, at timestamptz, at_id text, at_source text, without uuid)
returns text
language sql stable parallel safe
begin atomic
    select l.target from {data}.registry l
    where l.subject = linked and l.target is not null
        and (l.time, l.id, l.source) <= (at, at_id, at_source) and l.key is distinct from without
        and not exists (select from {data}.registry u
            where u.subject = linked and u.undoes = l.key
                and (u.time, u.id, u.source) <= (at, at_id, at_source) and u.key is distinct from without
            offset 0)
    order by l.time desc, l.id desc, l.source desc limit 1;
end;

-- What held of a setting, a key or a link by what was told up to a fact, this one included, unless it is the
-- one that is left out; null where nothing did. A key is its name and scopes until it is revoked.
create function {data}.held_with(about text, at timestamptz, at_id text, at_source text, without uuid)
returns text
language sql stable parallel safe
begin atomic
    select case
        when starts_with(about, 'setting:') then (
            select r.data->>'value' from {data}.registry r
            where r.type = 'setting.changed' and r.subject = about
                and (r.time, r.id, r.source) <= (at, at_id, at_source) and r.key is distinct from without
            order by r.time desc, r.id desc, r.source desc limit 1)
        when starts_with(about, 'key:') then (
            select concat(r.data->>'name', ' (', r.data->>'scopes', ')') from {data}.registry r
            where r.type = 'key.created' and r.subject = about
                and (r.time, r.id, r.source) <= (at, at_id, at_source) and r.key is distinct from without
                and not exists (select from {data}.registry e
                    where e.type = 'key.revoked' and e.subject = about
                        and (e.time, e.id, e.source) <= (at, at_id, at_source)
                        and e.key is distinct from without)
            order by r.time desc, r.id desc, r.source desc limit 1)
        else {data}.link_with(about, at, at_id, at_source, without)
    end;
end;

-- What a fact of the registry changed. Of a parked record that was discarded all that is known is its reason.
create function {data}.change_of(about text, fact uuid) returns table (before text, after text)
language sql stable parallel safe
begin atomic
    select case r.type when 'parked.discarded' then r.data->>'reason'
            else {data}.held_with(r.subject, r.time, r.id, r.source, r.key) end,
        case r.type when 'parked.discarded' then null
            else {data}.held_with(r.subject, r.time, r.id, r.source, null) end
    from {data}.registry r where r.subject = about and r.key = fact;
end;
