use std::time::Duration;

use jiff::Timestamp;

use super::{super::list::second, Found, Opened, newest::Newest};

/// What became of a connection.
pub struct Row {
    namespace: String,
    name: String,
    marketplace: String,
    keys: Option<usize>,
    newest: Option<Timestamp>,
    took: Option<Duration>,
    pub problem: Option<String>,
}

impl Row {
    /// Of one whose keys can't be opened or used.
    pub fn unopened(found: &Found, problem: &str) -> Self {
        let (namespace, name) = found.of.clone().unwrap_or_else(|| (String::new(), found.id.to_string()));
        Self {
            namespace,
            name,
            marketplace: String::new(),
            keys: None,
            newest: None,
            took: None,
            problem: Some(problem.to_owned()),
        }
    }

    pub fn of(opened: &Opened, newest: Newest) -> Self {
        let keyring = &opened.keyring;
        Self {
            namespace: opened.namespace.clone(),
            name: opened.name.clone(),
            marketplace: opened.marketplace.clone(),
            keys: Some(keyring.live(Timestamp::MIN).count() + keyring.holds().count()),
            newest: newest.taken,
            took: None,
            problem: newest.problem,
        }
    }

    /// How long the check took.
    pub fn after(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }
}

/// A line for each, as wide as what is in it.
pub fn table(rows: &[Row]) -> String {
    let is_checked = rows.iter().any(|row| row.took.is_some());
    let mut lines = vec![
        ["NAMESPACE", "CONNECTION", "MARKETPLACE", "KEYS", "NEWEST BACKUP", "TOOK", "PROBLEM"]
            .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(cells));
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let columns = |column: &usize| is_checked || *column != TOOK;
    let line = |cells: &[String; 7]| {
        let cells =
            (0..cells.len()).filter(columns).map(|column| format!("{:<1$}", cells[column], widths[column]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

const TOOK: usize = 5;

fn cells(row: &Row) -> [String; 7] {
    let or_dash =
        |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let cells = [
        or_dash(Some(row.namespace.clone())),
        row.name.clone(),
        or_dash(Some(row.marketplace.clone())),
        or_dash(row.keys.map(|keys| keys.to_string())),
        or_dash(row.newest.map(second)),
        or_dash(row.took.map(seconds)),
        row.problem.clone().unwrap_or_default(),
    ];
    // A document or a store may say anything, also what a terminal obeys.
    cells.map(|text| text.replace(char::is_control, " "))
}

/// Short ones with a decimal.
fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.1);
    if seconds < 9.95 { format!("{seconds:.1}s") } else { format!("{seconds:.0}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_nothing_controls_the_terminal() {
        let row = |namespace: &str, problem: Option<&str>| Row {
            namespace: namespace.to_owned(),
            name: "bol".to_owned(),
            marketplace: "bol".to_owned(),
            keys: Some(91),
            newest: Some("2026-11-29T00:32:50.7Z".parse().expect("a time")),
            took: None,
            problem: problem.map(str::to_owned),
        };
        let rows = [row("a-long-namespace", None), row("acme", Some("it\u{1b}[2J is\nbroken"))];
        assert_eq!(
            table(&rows),
            "NAMESPACE         CONNECTION  MARKETPLACE  KEYS  NEWEST BACKUP         PROBLEM\n\
             a-long-namespace  bol         bol          91    2026-11-29T00:32:50Z\n\
             acme              bol         bol          91    2026-11-29T00:32:50Z  it [2J is broken\n"
        );
        let rows = rows.map(|row| row.after(Duration::from_secs(7)));
        assert!(table(&rows).contains("  TOOK  PROBLEM\n") && table(&rows).contains("  7.0s  it"));
    }

    #[test]
    fn a_check_that_is_short_did_not_take_no_time() {
        for (milliseconds, shown) in
            [(40, "0.1s"), (260, "0.3s"), (9_949, "9.9s"), (9_960, "10s"), (12_345, "12s")]
        {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), shown);
        }
    }
}
