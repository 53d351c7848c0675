"""A row function that raises for one contact, as a broken model would.

Limits: run as the owner of the tables; `MEND` puts the whole one back.
Called by the tests of errors inside one contact, of metrics and of alerts.
"""

BAD = "trouble"

# The one function of rows, behind a wrapper that raises for one contact as a broken model would.
BREAK = """
alter function heed_data.engagement_at(text[], timestamptz, timestamptz) rename to engagement_at_whole;
create function heed_data.engagement_at(contacts text[], at timestamptz, upto timestamptz)
returns table (contact_id text, date_first_click timestamptz, date_last_click timestamptz, frequency int,
    volume int, volume_last_30 int, period_months int, valid_until timestamptz)
language plpgsql stable as $$
begin
    if 'trouble' = any(contacts) then
        raise exception 'this model divides by zero' using errcode = 'division_by_zero';
    end if;
    return query select * from heed_data.engagement_at_whole(contacts, at, upto);
end $$;
"""
MEND = """
drop function heed_data.engagement_at(text[], timestamptz, timestamptz);
alter function heed_data.engagement_at_whole(text[], timestamptz, timestamptz) rename to engagement_at;
"""
