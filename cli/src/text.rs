//! Durations, sizes and digests as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// `0.4s`, `12.3s`, `1m02s`, `2h05m`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", (duration.as_millis() / 100) as f64 / 10.0),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Time between two instants; none if a clock ran backwards.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// `3m ago`, `2d ago`: the largest unit alone.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = between(at, now).as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `512B`, `1.2kB`, `34.5MB`: powers of ten, as docker writes them.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        unit += 1;
        divisor *= 1000;
    }
    if unit == 0 {
        return format!("{bytes}B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `1 platform`, `2 platforms`.
pub(crate) fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_counts() {
        let d = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [d(0), d(449), d(59_949), d(62_000), d(7_500_000)],
            ["0.0s", "0.4s", "59.9s", "1m02s", "2h05m"]
        );
        assert_eq!(
            [bytes(999), bytes(1000), bytes(34_560_000), bytes(u64::MAX)],
            ["999B", "1.0kB", "34.5MB", "18446744.0TB"]
        );
        assert_eq!([count(1, "step"), count(0, "step")], ["1 step", "0 steps"]);
        let at = |s| Timestamp::new(s, 0).unwrap();
        assert_eq!(ago(at(0), at(200)), "3m ago");
        assert_eq!(ago(at(200), at(0)), "0s ago", "a clock that ran backwards");
    }
}
