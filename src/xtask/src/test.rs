//! `cargo xtask test`: every tier, one closing line.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use serde::Deserialize;
use snafu::{ResultExt, ensure_whatever};

use crate::{
    cluster, deny, e2e, generate, paths,
    progress::{seconds, step},
    run::{Result, inherit, output},
};

const API_SERVER: &str = "api_server";

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs every tier; goes on after a failure, and fails at the end.
pub fn run() -> Result<()> {
    let mut counts = Counts::default();
    thread::scope(|scope| {
        // Whoever needs one of them waits for it, and tells if it can't be built.
        scope.spawn(|| drop(cluster::prefetch()));
        checks(&mut counts);
        step("tests of all crates");
        counts.count("tests of all crates", tests_of_crates());
        step("tests on a whole cluster");
        counts.count("tests on a whole cluster", e2e::tests(None, false));
    });
    println!("{} passed, {} failed", counts.passed, counts.failed);
    ensure_whatever!(counts.failed == 0, "{} failed", counts.failed);
    Ok(())
}

fn checks(counts: &mut Counts) {
    let all = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    counts.add("formatting", cargo(&["fmt", "--all", "--check"]));
    counts.add("licences, sources, bans and vulnerabilities of dependencies", deny::check());
    counts.add("generated files are up to date", generate::check());
    counts.add("lints", cargo(&[&["clippy", "--quiet"][..], &all].concat()));
    // Those that cargo test leaves out.
    let others = ["--workspace", "--test", "e2e", "--test", "scale", "--", "-D", "warnings"];
    counts.add("lints of the tests on clusters", cargo(&[&["clippy", "--quiet"][..], &others].concat()));
}

impl Counts {
    fn count(&mut self, name: &str, results: Result<(u64, u64)>) {
        match results {
            Ok((passed, failed)) => {
                self.passed += passed;
                self.failed += failed;
            }
            Err(error) => self.add(name, Err(error)),
        }
    }

    fn add(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name}: {error}");
            }
        }
    }
}

fn cargo(words: &[&str]) -> Result<()> {
    let start = Instant::now();
    step(format!("cargo {}", words.join(" ")));
    let mut command = Command::new(env!("CARGO"));
    let result = inherit(command.args(words).current_dir(paths::checkout()));
    step(format!("cargo {} took {}", words[0], seconds(start.elapsed())));
    result
}

/// Those of the API server wait more than they work: all others are beside them.
fn tests_of_crates() -> Result<(u64, u64)> {
    cargo(&["test", "--workspace", "--no-run", "--quiet"])?;
    let named = test_targets()?.into_iter().filter(|name| name != API_SERVER);
    let named = named.flat_map(|name| ["--test".to_owned(), name]);
    let others: Vec<_> = ["--lib", "--bins"].into_iter().map(str::to_owned).chain(named).collect();
    let results = thread::scope(|scope| {
        let api_server = scope.spawn(|| cargo_test(&["--test", API_SERVER], "api server  "));
        let (others, docs) = (cargo_test(&others, ""), cargo_test(&["--doc"], ""));
        [api_server.join().unwrap_or_else(|panic| resume_unwind(panic)), others, docs]
    });
    results.into_iter().try_fold((0, 0), |(passed, failed), result| {
        let (more_passed, more_failed) = result?;
        Ok((passed + more_passed, failed + more_failed))
    })
}

fn cargo_test(which: &[impl AsRef<OsStr>], label: &str) -> Result<(u64, u64)> {
    let mut command = Command::new(env!("CARGO"));
    harness(command.args(["test", "--workspace", "--no-fail-fast"]).args(which), label)
}

/// Those that `cargo test` runs by itself.
fn test_targets() -> Result<Vec<String>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(paths::checkout());
    let metadata = output(&mut command)?;
    targets(&metadata).whatever_context("cargo metadata says something else than it did")
}

fn targets(metadata: &str) -> serde_json::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
        test: bool,
    }
    let Metadata { packages } = serde_json::from_str(metadata)?;
    let all = packages.into_iter().flat_map(|package| package.targets);
    let tests = all.filter(|target| target.test && target.kind == ["test"]);
    Ok(tests.map(|target| target.name).collect())
}

/// Runs test harnesses, shows what they print as it comes, each line after a label, and counts what they report. A crate that
/// doesn't compile is a failure, not a zero.
pub(crate) fn harness(cargo: &mut Command, label: &str) -> Result<(u64, u64)> {
    cargo.current_dir(paths::checkout()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = cargo.spawn().whatever_context("can't run cargo test")?;
    let mut text = String::new();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.whatever_context("can't read what cargo test prints")?;
        println!("{label}{line}");
        text.push_str(&line);
        text.push('\n');
    }
    let status = child.wait().whatever_context("can't wait for cargo test")?;
    let (passed, failed) = counted(&text);
    Ok((passed, if status.success() { failed } else { failed.max(1) }))
}

/// Sums the lines `test result: ok. 3 passed; 0 failed; …`.
fn counted(output: &str) -> (u64, u64) {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let number = |line: &str, word: &str| {
        let part = line.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').rev().nth(1)?.parse::<u64>().ok()
    };
    results.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, "passed").unwrap_or(0), failed + number(line, "failed").unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_that_cargo_runs_is_named_and_no_other() {
        let target = |name: &str, kind: &str, test: bool| {
            format!(r#"{{"name": "{name}", "kind": ["{kind}"], "test": {test}}}"#)
        };
        let all = [target("relay", "test", true), target("e2e", "test", false), target("lib", "lib", true)];
        let metadata = format!(r#"{{"packages": [{{"targets": [{}]}}]}}"#, all.join(", "));
        assert_eq!(targets(&metadata).expect("metadata"), ["relay"]);
    }

    #[test]
    fn results_of_all_harnesses_are_summed() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored; finished in 0s\nnoise\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0s\n";
        assert_eq!(counted(output), (4, 2));
    }
}
