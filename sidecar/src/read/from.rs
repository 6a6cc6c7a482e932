//! `from`: where reading starts without a cursor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cursor::Cursor;

/// Where reading starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the first record that is there.
    Earliest,
    /// At what is written from now on.
    Latest,
    /// At the first record that is not older than this, in milliseconds since 1970.
    Time(i64),
    /// So many offsets before the end of each partition.
    Last(i64),
    /// At these records themselves.
    At(Cursor),
}

impl From {
    /// Reads it: `earliest`, `latest`, `-100`, an ISO-8601 date or time, or `topic@partition#offset`, plain or in
    /// base64 if it is several.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(count) = text.strip_prefix('-') {
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count.parse::<u32>().ok().filter(|count| digits && *count > 0);
            let count = count.ok_or_else(|| format!("{text:?} is no number of records, as -100"))?;
            return Ok(Self::Last(count.into()));
        }
        if text.contains('@') {
            let cursor = Cursor::parse(text)?;
            if let Some((topic, partition, _)) = cursor.iter().find(|(_, _, offset)| *offset < 0) {
                return Err(format!("{topic}@{partition}#-1 is no record"));
            }
            return Ok(Self::At(cursor));
        }
        time(text).map(Self::Time).ok_or_else(|| {
            "is none of earliest, latest, -100, an ISO-8601 time as 2026-01-31T12:00:00Z, and topic@partition#offset"
                .to_owned()
        })
    }
}

/// A date, or a date and time, with an offset or in UTC, as milliseconds since 1970.
fn time(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, offset) = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => ("00:00:00", "Z"),
        None => return None,
        Some(rest) => {
            // A plus sign in a query is a space.
            let end = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
            rest.split_at_checked(end)?
        }
    };
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    let utc = humantime::parse_rfc3339(&format!("{date}T{clock}{seconds}Z")).ok()?;
    let minutes = match offset {
        "" | "Z" | "z" => 0,
        offset => {
            let (sign, digits) = offset.split_at_checked(1)?;
            let digits = digits.replace(':', "");
            let known = matches!(digits.len(), 2 | 4) && digits.bytes().all(|b| b.is_ascii_digit());
            let number: i64 = digits.parse().ok().filter(|_| known)?;
            let (hours, minutes) = match digits.len() {
                2 => (number, 0),
                _ => (number / 100, number % 100),
            };
            let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    millis(utc)?.checked_sub(minutes * 60_000)
}

fn millis(time: SystemTime) -> Option<i64> {
    let since: Duration = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let parse = |text: &str| From::parse(text).unwrap();
        assert_eq!(parse("earliest"), From::Earliest);
        assert_eq!(parse("latest"), From::Latest);
        assert_eq!(parse("-100"), From::Last(100));
        assert_eq!(parse("t@1#0"), From::At(Cursor::of("t", 1, 0)));
        let noon = From::Time(1_769_860_800_000);
        for same in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00.000Z",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T14:00:00 02:00",
            "2026-01-31T14:00+0200",
            "2026-01-31T14:00+02",
            "2026-01-31T06:30:00-05:30",
        ] {
            assert_eq!(parse(same), noon, "{same}");
        }
        assert_eq!(parse("2026-01-31"), From::Time(1_769_817_600_000));
        assert_eq!(parse("2026-01-31T12:00:00.250Z"), From::Time(1_769_860_800_250));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in [
            "",
            "now",
            "-0",
            "-+5",
            "-x",
            "-",
            "12",
            "2026-13-01",
            "2026-01-31T25:00:00Z",
            "2026-01-31T12:00:00+9",
            "2026-01-31T12:00:00+25:00",
            "2026-01-31x",
            "t@0",
            "t@0#-1",
            "1960-01-01",
            "2026-01-31T12:00:00+é1",
            "é2026-01-31",
        ] {
            assert!(From::parse(text).is_err(), "{text}");
        }
    }
}
