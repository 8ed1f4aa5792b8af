//! Reading values out of Prometheus' text format.

/// The sum of every series called `name` whose labels contain `label` (an empty one fits all), or
/// `None` when there is no such series.
pub fn sum(text: &str, name: &str, label: &str) -> Option<f64> {
    let mut values = text
        .lines()
        .filter_map(|line| series_value(line, name, label))
        .peekable();
    values.peek()?;
    Some(values.sum())
}

fn series_value(line: &str, name: &str, label: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with(['{', ' ']) || !rest.contains(label) {
        return None;
    }
    rest.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_the_series_of_one_name() {
        let text = "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nab{x=\"1\"} 7\nc 5\n";
        assert_eq!(sum(text, "a", ""), Some(5.0));
        assert_eq!(sum(text, "a", "x=\"2\""), Some(3.0));
        assert_eq!(sum(text, "c", ""), Some(5.0));
        assert_eq!(sum(text, "d", ""), None);
    }
}
