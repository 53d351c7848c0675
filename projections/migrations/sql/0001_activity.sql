-- The timeline of a contact (ACT-1): a reading of the facts through who belongs to whom, and of the links
-- that stand. There is no second copy of them, so what moves a row (a merge, its undo, a deletion, consent, a
-- fact told late) moves the timeline with it, and as of an instant it is the same reading.

create table {data}.activity_kind (
    event_type text primary key,
    type text not null,
    action text not null,
    feature text not null,
    text text not null,
    told text[] not null,
    status text not null,
    behaviour bool not null,
    registered bool not null
);
comment on table {data}.activity_kind is 'Which types of facts are activities, and what they are called: a copy of schemas/activity.py.';

-- No index of facts by time: with one, a plan made while `fact` is small reads all of it for every contact
-- that is folded, since every fact is dated before 'infinity'. What happened to everybody is read without.
create index registry_by_time on {data}.registry (time desc) where target is not null;

-- The contacts among what belongs to a contact at an instant, itself included: nothing else is deleted or
-- consents, and sessions may be tens of thousands.
create index member_contacts on {data}.member (root) where subject >= 'contact:' and subject < 'contact;';
create index registry_merges on {data}.registry (target)
    where target is not null and subject >= 'contact:' and subject < 'contact;';
create function {data}.contacts_of(contact text, upto timestamptz) returns setof text
language sql stable parallel safe
begin atomic
    with recursive below(subject) as (
        select 'contact:' || contact collate "C"
        union
        select l.subject from below b
        join {data}.registry l on l.target = b.subject and l.subject >= 'contact:' and l.subject < 'contact;'
        where upto <> 'infinity' and l.time <= upto and {data}.link_at(l.subject, upto) = b.subject
    )
    select b.subject from below b
    union all
    select m.subject from {data}.member m
    where m.root = 'contact:' || contact and m.subject >= 'contact:' and m.subject < 'contact;'
        and upto = 'infinity';
end;

-- What is to be seen is said here and nowhere else, by the rules of engagement_at.

-- A row, if anything of a contact is to be seen by what was told until an instant: it is not deleted. And
-- whether what it did with mail or on a site is: no consent of what belongs to it withholds that.
create function {data}.contact_shown(contact text, upto timestamptz) returns table (behaviour bool)
language sql stable parallel safe rows 1
begin atomic
    select not exists (
        select from {data}.contacts_of(contact, upto) told(subject)
        cross join lateral (
            select p.data::jsonb->>'level' in ('refused', 'aggregate') as withholds from {data}.fact p
            where p.subject = told.subject and p.type = 'contact.consent_changed' and p.time <= upto
            order by p.time desc, p.id desc, p.source desc limit 1
        ) said
        where said.withholds)
    where coalesce((
        select p.type <> 'contact.deleted' from {data}.fact p
        where p.subject = 'contact:' || contact and p.type in ('contact.deleted', 'contact.restored')
            and p.time <= upto
        order by p.time desc, p.id desc, p.source desc limit 1), true);
end;

-- A row, if what was told of this very subject is to be seen: it is no contact that is deleted itself.
create function {data}.subject_shown(told_of text, upto timestamptz) returns table (shown bool)
language sql stable parallel safe rows 1
begin atomic
    select true
    where not starts_with(told_of, 'contact:') or coalesce((
        select p.type <> 'contact.deleted' from {data}.fact p
        where p.subject = told_of and p.type in ('contact.deleted', 'contact.restored') and p.time <= upto
        order by p.time desc, p.id desc, p.source desc limit 1), true);
end;

-- The text of an activity, with the told fields behind it. A field is looked up as admission writes it, and
-- not parsed: a stranger's record on the log must not break a contact's timeline.
create function {data}.activity_text(text text, told text[], mailing text, target text, data text)
returns text
language sql immutable parallel safe
begin atomic
    select concat_ws(': ', text, nullif(string_agg(
        case t.field
            when 'mailing_id' then mailing
            when 'into' then substr(target, 9)
            when 'contact_id' then substr(target, 9)
            else coalesce(substring(data from '"' || t.field || '":"([^"\\]*)"'),
                substring(data from '"' || t.field || '":(true|false)')) end, ', ' order by t.place), ''))
    from unnest(told) with ordinality as t(field, place);
end;

-- For the view below, whose readers may see nothing of what these look at.
create function {read}.activity_of_contact(contact text) returns table (behaviour bool)
language sql stable security definer rows 1
begin atomic
    select s.behaviour from {data}.contact_shown(substr(contact, 9), 'infinity') s;
end;
create function {read}.activity_of_subject(subject text) returns table (shown bool)
language sql stable security definer rows 1
begin atomic
    select s.shown from {data}.subject_shown(subject, 'infinity') s;
end;

-- A contact's own facts and links, and those of what belongs to it, apart: so that `contact` is an index's.
create view {read}.activity as
select a.contact, substr(a.contact, 9) as contact_id, a.time, k.type, k.action, k.feature,
    {data}.activity_text(k.text, k.told, a.mailing, a.target, a.data) as text, k.status, a.actor,
    a.type as event_type, a.source, a.id as event_id, a.subject
from (
    select f.subject as contact, f.subject, f.time, f.type, f.source, f.id, f.actor, f.mailing,
        null as target, f.data
    from {data}.fact f
    where not f.test and not exists (select from {data}.member m where m.subject = f.subject)
    union all
    select m.root, f.subject, f.time, f.type, f.source, f.id, f.actor, f.mailing, null, f.data
    from {data}.member m join {data}.fact f on f.subject = m.subject where not f.test
    union all
    select l.subject, l.subject, l.time, l.type, l.source, l.id, l.actor, null, l.target, l.data::text
    from {data}.registry l
    where l.target is not null and not exists (select from {data}.member m where m.subject = l.subject)
        and not exists (select from {data}.registry u where u.subject = l.subject and u.undoes = l.key)
    union all
    select m.root, l.subject, l.time, l.type, l.source, l.id, l.actor, null, l.target, l.data::text
    from {data}.member m join {data}.registry l on l.subject = m.subject
    where l.target is not null
        and not exists (select from {data}.registry u where u.subject = l.subject and u.undoes = l.key)
) a
join {data}.activity_kind k on k.event_type = a.type
cross join lateral {read}.activity_of_contact(a.contact) c
cross join lateral {read}.activity_of_subject(a.subject) s
where starts_with(a.contact, 'contact:') and (c.behaviour or not k.behaviour)
    and (select {read}.of_this_snapshot(bool_or(g.live)) from {data}.generation g);

comment on view {read}.activity is 'The timeline: what happened to each contact, with what belongs to it. Ask for one contact: what happened to everybody is no index''s.';
comment on column {read}.activity.contact is 'The contact with contact: before its id; to be filtered by, since an index serves it.';
comment on column {read}.activity.contact_id is 'The contact''s id, as in contact_engagement.';
comment on column {read}.activity.time is 'When it happened (UTC).';
comment on column {read}.activity.type is 'Kind of activity: Email, System, Contact, Session.';
comment on column {read}.activity.action is 'What was done, as Output or Email Open.';
comment on column {read}.activity.feature is 'What of Heed it belongs to, as Serial Mail & Tracking.';
comment on column {read}.activity.text is 'One line about it, in English; nothing personal.';
comment on column {read}.activity.status is 'One of: Scheduled, Completed, Failed, Cancelled.';
comment on column {read}.activity.actor is 'Who did it, where that was told, as key:<id>.';
comment on column {read}.activity.event_type is 'CloudEvents type of the event behind it.';
comment on column {read}.activity.source is 'CloudEvents source of that event.';
comment on column {read}.activity.event_id is 'CloudEvents id of that event.';
comment on column {read}.activity.subject is 'Whom that event was told of: the contact, one merged into it, a session.';

grant select on {read}.activity to heed_dashboard;
