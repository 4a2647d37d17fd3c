//! What connections must agree about. Pure.

use std::collections::BTreeMap;

use super::{Found, Opened};

/// Those that stand in each other's way are not opened: two of one name, and a namespace whose digest keys differ.
pub fn agreed(mut found: Vec<Found>) -> Vec<Found> {
    let mut problems = vec![None; found.len()];
    for one in namespaces(&found).values() {
        if let Some(problem) = problem(one.iter().map(|(_, opened)| *opened)) {
            for (at, _) in one {
                problems[*at] = Some(problem.clone());
            }
        }
    }
    for (found, problem) in found.iter_mut().zip(problems) {
        if let Some(problem) = problem {
            found.opened = Err(problem);
        }
    }
    found
}

type Namespaces<'a> = BTreeMap<&'a str, Vec<(usize, &'a Opened)>>;

fn namespaces(found: &[Found]) -> Namespaces<'_> {
    let mut all = Namespaces::new();
    for (at, found) in found.iter().enumerate() {
        if let Ok(opened) = &found.opened {
            all.entry(opened.namespace.as_str()).or_default().push((at, opened));
        }
    }
    all
}

fn problem<'a>(namespace: impl Iterator<Item = &'a Opened>) -> Option<String> {
    let mut names = BTreeMap::new();
    let mut first: Option<&Opened> = None;
    for opened in namespace {
        if let Some(other) = names.insert(opened.name.as_str(), opened) {
            return Some(format!(
                "{} has two ids, {} and {}: choose with --connection ID, or remove what is left of the older one from the store",
                opened.shown(),
                other.id,
                opened.id
            ));
        }
        let first = first.get_or_insert(opened);
        if first.digest != opened.digest {
            return Some(format!(
                "{} and {} have different digest keys, and a namespace has one: choose with --connection NAME",
                first.shown(),
                opened.shown()
            ));
        }
    }
    None
}
