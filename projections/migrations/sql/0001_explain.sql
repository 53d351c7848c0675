-- The facts behind each number and date of one contact's row at an instant: which of them, taken away, would
-- change it.

-- They are given in units. A unit of one fact changes the number by its absence; the facts of a larger
-- unit say the same (clicks of one mailing, of one instant) and change it only all together. A number
-- is null without a row, so the one fact that holds the row is a unit of every number; and so are the
-- latest words on a subject's presence, or on its consent, where the word before them would show or hide
-- what the number is counted by. `behind` is how many facts a number has in all; at most `most` of them are
-- given, single ones first, then the newest. What counts is what counts in `engagement_at`, written out here
-- since each fact is asked for and not their sum; a law test holds both against the oracle. `offset 0`
-- keeps the planner at reading subject by subject, by index, however many facts others have.
create function {data}.engagement_behind(contact text, at timestamptz, upto timestamptz, most int)
returns table (field text, unit bigint, alone bool, source text, id text, type text, "time" timestamptz,
    behind bigint)
language sql stable parallel safe
begin atomic
    with rule as materialized (
        select r.keep_row_without_clicks as keep, make_interval(months => r.period_months) as period,
            at - interval '720 hours' as since
        from {data}.rule_at(upto) r limit 1
    ), told as materialized (  -- nothing for a contact that belongs to another
        select s.subject from {data}.subjects_of(contact, upto) s(subject)
        where case when upto = 'infinity'
            then not exists (select from {data}.member m where m.subject = 'contact:' || contact)
            else {data}.root_at('contact:' || contact, upto) = 'contact:' || contact end
    ), word as materialized (  -- what was said of each subject's presence and consent, the latest first
        select p.*, row_number() over latest as n, first_value(p.hides) over latest as last_hides
        from told
        cross join lateral (
            select f.subject, 'presence' as kind, f.type = 'contact.deleted' as hides, f.source, f.id, f.type,
                f.time
            from {data}.fact f
            where f.subject = told.subject and f.type in ('contact.deleted', 'contact.restored')
                and f.time <= upto
            offset 0
        ) p
        window latest as (partition by p.subject order by p.time desc, p.id desc, p.source desc)
        union all
        select p.*, row_number() over latest, first_value(p.hides) over latest
        from told
        cross join lateral (
            select f.subject, 'consent', f.data::jsonb->>'level' in ('refused', 'aggregate') as hides,
                f.source, f.id, f.type, f.time
            from {data}.fact f
            where f.subject = told.subject and f.type = 'contact.consent_changed' and f.time <= upto
            offset 0
        ) p
        window latest as (partition by p.subject order by p.time desc, p.id desc, p.source desc)
    ), standing as materialized (  -- `other`: the latest word that says the contrary of the last
        select w.kind, w.subject, bool_or(w.last_hides) as hidden,
            min(w.n) filter (where w.hides <> w.last_hides) as other
        from word w group by w.kind, w.subject
    ), refused as materialized (
        select count(*) as subjects from standing s where s.kind = 'consent' and s.hidden
    ), counted as materialized (
        select f.subject, f.source, f.id, f.type, f.time, f.mailing, f.clicked, f.shown,
            not f.clicked and at <= f.end_of_period as of_period,
            not f.clicked and r.since <= f.time as of_30,
            f.clicked or (r.keep and at <= f.end_of_period) as holds,
            greatest(0, floor(extract(epoch from at - f.time) / 86400)) as days
        from rule r cross join told
        left join standing p on p.kind = 'presence' and p.subject = told.subject
        cross join lateral (
            select f.subject, f.source, f.id, f.type, f.time, f.mailing, f.type = 'mail.clicked' as clicked,
                ((f.time at time zone interval '0') + r.period) at time zone interval '0' as end_of_period,
                not coalesce(p.hidden, false) as shown
            from {data}.fact f
            where f.subject = told.subject and f.type in ('mail.clicked', 'mail.delivered')
                and f.mailing is not null and not f.test and f.time <= upto
            offset 0
        ) f
        where at <= f.end_of_period or (not f.clicked and r.since <= f.time)
    ), turn as (  -- as it is, and with what each subject's last words say turned round, where that can be;
        -- who is the root hides all when it is hidden, and one consent withholds the clicks of all
        select u.kind, u.subject, u.other,
            (u.kind = 'presence' and u.subject = 'contact:' || contact) = coalesce((
                select p.hidden from standing p
                where p.kind = 'presence' and p.subject = 'contact:' || contact), false) as open,
            (select r.subjects from refused r)
                + case when u.kind = 'consent' then case when u.hidden then -1 else 1 end else 0 end > 0
                as withheld
        from (
            select '' as kind, null::text as subject, null::bigint as other, false as hidden
            union all
            select p.kind, p.subject, p.other, p.hidden from standing p where p.hidden or p.other is not null
        ) u
    ), number as materialized (
        select t.kind, t.subject, t.other, t.withheld, min(f.time) filter (where f.clicked) as first_click,
            max(f.time) filter (where f.clicked) as last_click,
            min(f.days) filter (where f.clicked) as recency,
            count(distinct f.mailing) filter (where f.clicked) as frequency,
            count(distinct f.mailing) filter (where f.of_period) as volume,
            count(distinct f.mailing) filter (where f.of_30) as volume_last_30,
            count(*) filter (where f.holds) as holding
        from turn t
        left join counted f on t.open and not (f.clicked and t.withheld)
            and (f.subject = 'contact:' || contact
                or f.shown <> (t.kind = 'presence' and f.subject is not distinct from t.subject))
        group by t.kind, t.subject, t.other, t.withheld
    ), value as (
        select n.kind, n.subject, n.other, n.holding, v.field,
            case when n.holding > 0 then v.value end as value
        from number n
        cross join lateral (values ('date_first_click', extract(epoch from n.first_click)),
            ('date_last_click', extract(epoch from n.last_click)), ('recency', n.recency),
            ('frequency', n.frequency), ('volume', n.volume), ('volume_last_30', n.volume_last_30)
        ) v(field, value)
    ), part as (
        -- of a mailing, or of one instant or day
        select now.field, 'mail' as kind, case when now.field in ('frequency', 'volume', 'volume_last_30')
                then f.mailing else '' end as name,
            f.source, f.id, f.type, f.time, n.holding = 1 and f.holds as covered
        from number n
        join value now on now.subject is null and now.value is not null
        join counted f on f.shown and not (f.clicked and n.withheld) and case now.field
            when 'date_first_click' then f.clicked and f.time = n.first_click
            when 'date_last_click' then f.clicked and f.time = n.last_click
            when 'recency' then f.clicked and f.days = n.recency
            when 'frequency' then f.clicked
            when 'volume' then f.of_period
            else f.of_30 end
        where n.subject is null
        union all
        -- the one fact that holds the row: without it every number is null
        select now.field, 'row', '', f.source, f.id, f.type, f.time, false
        from number n
        join value now on now.subject is null and now.value is not null
        join counted f on f.shown and not (f.clicked and n.withheld) and f.holds
        where n.subject is null and now.holding = 1
        union all
        -- the latest words on a subject's presence or consent, where the number hangs on them
        select v.field, v.kind, w.subject, w.source, w.id, w.type, w.time, false
        from value v
        join value now on now.subject is null and now.field = v.field and v.value is distinct from now.value
        join word w on w.kind = v.kind and w.subject = v.subject and w.n < coalesce(v.other, w.n + 1)
    ), unit as (
        select p.*, count(*) over same as size, max(p.time) over same as latest,
            bool_or(p.covered) over same as left_out
        from part p
        window same as (partition by p.field, p.kind, p.name)
    )
    select b.field, b.unit, b.size = 1, b.source, b.id, b.type, b.time, b.behind
    from (
        select u.field, u.size, u.source, u.id, u.type, u.time,
            count(*) over (partition by u.field) as behind,
            dense_rank() over (
                partition by u.field order by u.size > 1, u.latest desc, u.kind, u.name) as unit,
            row_number() over (
                partition by u.field
                order by u.size > 1, u.latest desc, u.kind, u.name, u.time desc, u.id, u.source) as place
        from unit u where not u.left_out
    ) b
    where b.place <= most
    order by b.field, b.place;
end;
