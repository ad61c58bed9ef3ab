//! Formats figures: `11,449`, `40 MiB`, `1.4 s`, `2:03`.

use contract::Unit;
pub use contract::figures::{count, counted};

/// Formats bytes in powers of 1024 with two or three digits: `812 B`, `1.5 KiB`, `40 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    // 1023.5 and above would be rounded to 1024.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Formats a duration: `0.03 s`, `1.4 s`, `12 s`, `2:03`, `1:02:03`, `4 d 6 h`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.095 {
        format!("{seconds:.2} s")
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 59.5 {
        format!("{seconds:.0} s")
    } else {
        clock(seconds)
    }
}

/// Formats a duration in hours, minutes and seconds, or from two days on in days and hours: `0:07`, `2:03`, `1:02:03`,
/// `47:59:59`, `4 d 6 h`, `462 d 20 h`.
pub fn clock(seconds: f64) -> String {
    // Saturates at the largest u64.
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..48 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} d {} h", count(hours / 24), hours % 24),
    }
}

/// Formats an age in one unit: `7 s`, `2 min`, `3 h`, `2 d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Formats an amount of a unit: `11,449 rows`, `40 MiB`, `120 of 2,000 steps`, `2:03`.
pub fn amount(done: u64, total: Option<u64>, unit: Unit) -> String {
    let noun = match unit {
        Unit::Bytes | Unit::Seconds => "",
        Unit::Rows => "row",
        Unit::Steps => "step",
        Unit::Tokens => "token",
        Unit::Merges => "merge",
        Unit::Completions => "completion",
    };
    let number = |number: u64| match unit {
        Unit::Bytes => size(number),
        Unit::Seconds => clock(number as f64),
        _ => count(number),
    };
    let counted = |count| if noun.is_empty() { number(count) } else { counted(count, noun) };
    match total {
        Some(total) => format!("{} of {}", number(done), counted(total)),
        None => counted(done),
    }
}

/// Formats a rate in units per second: `8,123/s`, `3.1/s`, `12 MiB/s`.
pub fn rate(rate: f64, unit: Unit) -> String {
    if unit == Unit::Bytes {
        format!("{}/s", size(rate.max(0.0) as u64))
    } else if rate < 9.95 {
        format!("{rate:.1}/s")
    } else {
        format!("{}/s", count(rate.round() as u64))
    }
}

/// Formats two values of a metric, with enough digits to distinguish them; a missing one is `none`.
pub fn metrics(older: Option<f64>, newer: Option<f64>) -> [String; 2] {
    let text = |value: Option<f64>| value.map_or("none".to_owned(), metric);
    let exact = |value: Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
    match [text(older), text(newer)] {
        [one, other] if one == other => [exact(older), exact(newer)],
        texts => texts,
    }
}

/// Formats a value with four digits: `4.2137`, `0.0005`, `1.2e-7`.
pub fn metric(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.1e}")
    }
}
