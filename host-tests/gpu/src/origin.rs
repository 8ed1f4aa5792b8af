//! Where results are from: the card, its driver, the commit and the day.

use farthing_kernels::cuda::{Card, Device};
use serde::{Deserialize, Serialize};
use std::env;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// The first line of a file of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub card: String,
    pub capability: String,
    pub multiprocessors: u32,
    /// The CUDA version that the driver speaks.
    pub cuda: String,
    pub driver: String,
    pub commit: String,
    pub date: String,
}

impl Origin {
    pub fn of(card: &Card) -> Origin {
        let properties = card.properties();
        let (cuda, driver) = (card.found().cuda_version, card.found().driver.clone());
        let (major, minor) = properties.capability;
        Origin {
            card: properties.name.clone(),
            capability: format!("{major}.{minor}"),
            multiprocessors: properties.multiprocessors,
            cuda: format!("{}.{}", cuda / 1_000, cuda % 1_000 / 10),
            driver: driver.unwrap_or_else(|| "unknown".to_string()),
            commit: commit().unwrap_or_else(|| "unknown".to_string()),
            date: date(),
        }
    }

    pub fn line(&self) -> String {
        format!(
            "{} ({}, {} multiprocessors), driver {}, CUDA {}, farthing {} at {}, {}",
            self.card,
            self.capability,
            self.multiprocessors,
            self.driver,
            self.cuda,
            env!("CARGO_PKG_VERSION"),
            self.commit,
            self.date
        )
    }
}

/// What `FARTHING_COMMIT` says, for a copy of the sources without their history; else git.
fn commit() -> Option<String> {
    if let Some(commit) = env::var("FARTHING_COMMIT").ok().filter(|c| !c.is_empty()) {
        return Some(commit);
    }
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

fn date() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date_of(since.map_or(0, |since| since.as_secs() / DAY_S))
}

/// The day, so many days after 1970-01-01. Source: Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`.
fn date_of(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on, so that a leap day is the last of its year.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date_of;

    #[test]
    fn days_have_dates() {
        let cases = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_088, "2024-12-31"),
            (20_089, "2025-01-01"),
        ];
        for (days, expected) in cases {
            assert_eq!(date_of(days), expected, "{days}");
        }
    }
}
