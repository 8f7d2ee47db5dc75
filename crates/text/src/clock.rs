//! The date that a chat template may ask for (`strftime_now`; Llama-3.2 writes it into its system prompt).
//!
//! A prompt that changes from day to day cannot be reproduced, so the moment is a setting. Times are UTC, where
//! transformers takes the machine's local time.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// What `strftime_now` takes for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time of the call.
    #[default]
    System,
    /// A moment in seconds since 1970-01-01 00:00 UTC.
    Fixed(i64),
}

impl Clock {
    /// Seconds since 1970-01-01 00:00 UTC.
    fn seconds(self) -> i64 {
        match self {
            Self::Fixed(seconds) => seconds,
            Self::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
            },
        }
    }
}

/// A moment in the proleptic Gregorian calendar.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    /// 1 to 366.
    day_of_year: i64,
    second_of_day: i64,
}

impl Moment {
    fn of(clock: Clock) -> Self {
        // Beyond these years the arithmetic below would overflow; no template means such a date.
        let seconds = clock.seconds().clamp(-62_135_596_800, 253_402_300_799);
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil(days);
        let lengths = month_lengths(year);
        Self {
            year,
            month,
            day,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year: lengths.iter().take(month - 1).sum::<i64>() + day,
            second_of_day: seconds.rem_euclid(SECONDS_PER_DAY),
        }
    }
}

/// Year, month and day of a count of days since 1970-01-01, counted off from there: exact, and fast enough for a
/// call per prompt.
fn civil(mut days: i64) -> (i64, usize, i64) {
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += month_lengths(year).iter().sum::<i64>();
    }
    loop {
        for (month, length) in (1..).zip(month_lengths(year)) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
        year += 1;
    }
}

fn month_lengths(year: i64) -> [i64; 12] {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Python's `strftime` in the C locale, for the directives a date or time is written with; the name of the
/// directive where it isn't one of them.
pub(crate) fn strftime(format: &str, clock: Clock) -> Result<String, String> {
    let moment = Moment::of(clock);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let is_padded = directive != Some('-');
        if !is_padded {
            directive = characters.next();
        }
        let field = directive.and_then(|directive| field(directive, &moment));
        let written = field.ok_or_else(|| match directive {
            Some(directive) => format!("%{directive}"),
            None => "%".to_owned(),
        })?;
        text.push_str(if is_padded { &written } else { unpadded(&written) });
    }
    Ok(text)
}

/// Without leading zeros (`%-d`).
fn unpadded(field: &str) -> &str {
    let stripped = field.trim_start_matches('0');
    if stripped.is_empty() { "0" } else { stripped }
}

fn field(directive: char, moment: &Moment) -> Option<String> {
    let (hour, minute, second) =
        (moment.second_of_day / 3600, moment.second_of_day / 60 % 60, moment.second_of_day % 60);
    let month = MONTHS[moment.month - 1];
    let weekday = WEEKDAYS[moment.weekday];
    Some(match directive {
        'Y' => moment.year.to_string(),
        'y' => format!("{:02}", moment.year % 100),
        'm' => format!("{:02}", moment.month),
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'd' => format!("{:02}", moment.day),
        'e' => format!("{:2}", moment.day),
        'j' => format!("{:03}", moment.day_of_year),
        'A' => weekday.to_owned(),
        'a' => weekday[..3].to_owned(),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", (hour + 11) % 12 + 1),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'F' => format!("{}-{:02}-{:02}", moment.year, moment.month, moment.day),
        'T' => format!("{hour:02}:{minute:02}:{second:02}"),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_python_writes() {
        // datetime.fromtimestamp(t, timezone.utc).strftime(...)
        let cases = [
            (1_721_952_000, "26 Jul 2024"),
            (951_782_400, "29 Feb 2000"),
            (-1, "31 Dec 1969"),
            (4_107_542_400, "01 Mar 2100"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime("%d %b %Y", Clock::Fixed(seconds)).as_deref(), Ok(expected));
        }
        let full = strftime("%A %a %B %-d %j %y %I:%M:%S %p %F %T %%", Clock::Fixed(1_721_999_045));
        assert_eq!(full.as_deref(), Ok("Friday Fri July 26 208 24 01:04:05 PM 2024-07-26 13:04:05 %"));
    }

    #[test]
    fn names_the_directive_it_does_not_know() {
        assert_eq!(strftime("%d %Q", Clock::Fixed(0)), Err("%Q".to_owned()));
        assert_eq!(strftime("100%", Clock::Fixed(0)), Err("%".to_owned()));
    }
}
