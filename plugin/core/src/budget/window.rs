//! Spans of time with a budget of their own.

/// A window, aligned to multiples of its length since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start_s: u64,
    pub length_s: u32,
}

impl Window {
    pub fn at(now_unix_s: u64, length_s: u32) -> Window {
        let length_s = length_s.max(1);
        let into = now_unix_s.checked_rem(u64::from(length_s)).unwrap_or(0);
        Window {
            start_s: now_unix_s.saturating_sub(into),
            length_s,
        }
    }

    /// Seconds until the next window, at least 1.
    pub fn remaining_s(&self, now_unix_s: u64) -> u32 {
        let end = self.start_s.saturating_add(u64::from(self.length_s));
        u32::try_from(end.saturating_sub(now_unix_s))
            .unwrap_or(self.length_s)
            .max(1)
    }

    /// Is a record of that window still in force? Also one of the next window: two workers read
    /// the clock a moment apart. One further ahead is left over from a clock that was wrong.
    pub(super) fn holds(&self, record_start_s: u64) -> bool {
        let latest = self.start_s.saturating_add(u64::from(self.length_s));
        (self.start_s..=latest).contains(&record_start_s)
    }
}
