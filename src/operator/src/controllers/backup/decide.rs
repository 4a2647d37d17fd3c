//! Which of the waiting Jobs begin, and which have waited for too long. Pure, from what there is: the same for whoever
//! leads.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use marketrelay_api::backup::Site;

use super::job::{BackupJob, Stage, Task};

/// Jobs that are deleted in one look: places that get free meanwhile don't wait for the others.
const DROPS: usize = 64;

/// A Job, and what else is known of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The Job.
    pub job: BackupJob,
    /// When its CronJob makes the next one after it; `None`: the CronJob isn't known, and nothing is concluded.
    pub next: Option<Timestamp>,
    /// When one of its CronJob last succeeded, which that tells long after the Job itself is gone.
    pub succeeded: Option<Timestamp>,
    /// It was released just now, and the stores don't show it yet.
    pub is_released: bool,
}

/// What to do with a waiting Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Let it begin.
    Release(&'a BackupJob),
    /// Delete it: the next one takes its place.
    Drop(&'a BackupJob),
}

/// At most `most` Jobs work with a store at the same time, and one for each connection, since its relay gives one snapshot
/// at a time. Of those that wait, one of the namespace comes first that has the fewest at work there, then the one whose last
/// turn is the longest ago, then the oldest: what was deleted because it had waited for too long is made anew after what
/// had its turn, and would never get one by its age.
pub fn next(jobs: &[Seen], most: usize, now: Timestamp) -> Vec<Step<'_>> {
    let is_late = |seen: &&Seen| seen.next.is_some_and(|next| next <= now);
    let (mut late, mut waiting): (Vec<&Seen>, Vec<&Seen>) =
        jobs.iter().filter(|seen| waits(seen) && seen.next.is_some()).partition(is_late);
    let mut work = Work::default();
    jobs.iter().filter(|seen| runs(seen)).for_each(|seen| work.begins(&seen.job));
    let ended = last_turns(jobs);
    let last = |seen: &Seen| ended.get(&turn(&seen.job)).copied().max(seen.succeeded);
    waiting.sort_by_key(|seen| (last(seen), seen.job.created, &seen.job.namespace, &seen.job.name));
    let mut steps = Vec::new();
    while let Some(place) = work.first(&waiting, most) {
        let seen = waiting.remove(place);
        work.begins(&seen.job);
        steps.push(Step::Release(&seen.job));
    }
    // Those that can't be deleted stand in the way of no others for long.
    let turns = usize::try_from(now.as_second()).unwrap_or_default() % late.len().max(1);
    late.rotate_left(turns);
    steps.extend(late.into_iter().take(DROPS).map(|seen| Step::Drop(&seen.job)));
    steps
}

/// Whose turn a Job is.
fn turn(job: &BackupJob) -> (&str, &str, Site, Task) {
    (&job.namespace, &job.connection, job.site, job.task)
}

/// When the last one of each ended, as far as it is still there: that is hours. It may have failed.
fn last_turns(jobs: &[Seen]) -> HashMap<(&str, &str, Site, Task), Timestamp> {
    let mut last = HashMap::new();
    for job in jobs.iter().map(|seen| &seen.job) {
        if let Stage::Ended(end) = &job.stage {
            let at = last.entry(turn(job)).or_insert(end.at);
            *at = end.at.max(*at);
        }
    }
    last
}

/// When the next of those that wait will have waited for too long.
pub fn soonest(jobs: &[Seen], now: Timestamp) -> Option<Timestamp> {
    jobs.iter().filter(|seen| waits(seen)).filter_map(|seen| seen.next).filter(|next| *next > now).min()
}

fn waits(seen: &Seen) -> bool {
    seen.job.stage == Stage::Waits && !seen.is_released
}

fn runs(seen: &Seen) -> bool {
    seen.job.stage == Stage::Runs || seen.job.stage == Stage::Waits && seen.is_released
}

/// What is at work.
#[derive(Default)]
struct Work<'a> {
    stores: HashMap<&'a str, usize>,
    namespaces: HashMap<(&'a str, &'a str), usize>,
    connections: HashSet<(&'a str, &'a str)>,
}

impl<'a> Work<'a> {
    fn begins(&mut self, job: &'a BackupJob) {
        *self.stores.entry(&job.store).or_default() += 1;
        *self.namespaces.entry((&job.store, &job.namespace)).or_default() += 1;
        self.connections.insert((&job.namespace, &job.connection));
    }

    /// Of Jobs in their order, the place of the one that begins next.
    fn first(&self, waiting: &[&Seen], most: usize) -> Option<usize> {
        let has_room = |job: &BackupJob| {
            self.stores.get(job.store.as_str()).copied().unwrap_or_default() < most
                && !self.connections.contains(&(job.namespace.as_str(), job.connection.as_str()))
        };
        let at_work = |job: &BackupJob| {
            self.namespaces.get(&(job.store.as_str(), job.namespace.as_str())).copied().unwrap_or_default()
        };
        let free = waiting.iter().enumerate().filter(|(_, seen)| has_room(&seen.job));
        free.min_by_key(|(_, seen)| at_work(&seen.job)).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::backup::job::End;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn seen(namespace: &str, connection: &str, store: &str, created: i64, stage: Stage) -> Seen {
        let job = BackupJob {
            namespace: namespace.to_owned(),
            name: format!("{connection}-{created}"),
            uid: format!("{namespace}/{connection}-{created}"),
            version: None,
            connection: connection.to_owned(),
            site: Site::OnSite,
            task: Task::Run,
            store: store.to_owned(),
            place: "far".to_owned(),
            created: at(created),
            stage,
        };
        Seen { job, next: Some(at(created + 3_600)), succeeded: None, is_released: false }
    }

    fn released(jobs: &[Seen], most: usize, now: i64) -> Vec<&str> {
        let steps = next(jobs, most, at(now)).into_iter();
        steps
            .filter_map(|step| if let Step::Release(job) = step { Some(job.name.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn the_oldest_begin_first_and_no_namespace_takes_all_places() {
        let jobs = [
            seen("acme", "a", "s", 1, Stage::Waits),
            seen("acme", "b", "s", 2, Stage::Waits),
            seen("acme", "c", "s", 3, Stage::Waits),
            seen("blue", "d", "s", 4, Stage::Waits),
            seen("blue", "e", "other", 5, Stage::Waits),
        ];
        assert_eq!(released(&jobs, 2, 10), ["a-1", "d-4", "e-5"]);
        assert_eq!(released(&jobs, 3, 10), ["a-1", "d-4", "e-5", "b-2"]);
    }

    /// Minute by minute, as CronJobs do: who had a turn gets a new Job at once, who was dropped a moment later.
    #[test]
    fn where_not_all_get_a_turn_between_two_ticks_nobody_waits_longer_than_a_round() {
        turns(false);
    }

    #[test]
    fn whose_turn_it_is_is_known_though_the_jobs_that_had_theirs_are_gone() {
        turns(true);
    }

    fn turns(are_gone: bool) {
        const ALL: usize = 10;
        const PLACES: usize = 3;
        let mut last = [None::<i64>; ALL];
        for minute in 0..20 {
            let mut jobs = Vec::new();
            for (number, last) in last.iter().enumerate() {
                let (namespace, connection) = (format!("n{number}"), number.to_string());
                let seen = |created, stage| seen(&namespace, &connection, "s", created, stage);
                let ended = last.map(|last| last * 60 + 30);
                let since = if *last == Some(minute - 1) { 0 } else { 5 };
                let waits = seen(minute * 60 + since, Stage::Waits);
                if are_gone {
                    jobs.push(Seen { succeeded: ended.map(at), ..waits });
                    continue;
                }
                let of = |second| seen(second - 20, Stage::Ended(End { at: at(second), failure: None }));
                jobs.push(waits);
                jobs.extend(ended.map(of));
            }
            let begun = released(&jobs, PLACES, minute * 60 + 10);
            assert_eq!(begun.len(), PLACES);
            for name in begun {
                let number = name.split('-').next().and_then(|number| number.parse::<usize>().ok());
                last[number.expect("a number")] = Some(minute);
            }
            let round = i64::try_from(ALL.div_ceil(PLACES)).expect("few");
            assert!(last.iter().all(|last| minute - last.unwrap_or(-1) <= round), "{minute}: {last:?}");
        }
    }

    #[test]
    fn a_relay_is_asked_for_one_snapshot_at_a_time() {
        let mut jobs = vec![
            seen("acme", "a", "s", 1, Stage::Runs),
            seen("acme", "a", "other", 2, Stage::Waits),
            seen("blue", "a", "other", 3, Stage::Waits),
        ];
        assert_eq!(released(&jobs, 9, 10), ["a-3"], "another namespace's is another one");
        jobs[0].job.stage = Stage::Ended(End { at: at(5), failure: None });
        assert_eq!(released(&jobs, 9, 10), ["a-3", "a-2"], "who had a turn comes last");
        jobs[2].is_released = true;
        assert_eq!(
            released(&jobs, 1, 10),
            Vec::<&str>::new(),
            "the place is taken before the stores show it"
        );
    }

    #[test]
    fn a_job_that_waits_when_the_next_one_is_due_goes_and_one_of_an_unknown_schedule_stays() {
        let mut jobs = [
            seen("acme", "a", "s", 1, Stage::Runs),
            seen("acme", "b", "s", 2, Stage::Waits),
            seen("acme", "c", "s", 3, Stage::Waits),
        ];
        jobs[2].next = None;
        assert_eq!(next(&jobs, 1, at(3_601)), Vec::new());
        assert_eq!(next(&jobs, 1, at(3_602)), [Step::Drop(&jobs[1].job)]);
        assert_eq!(soonest(&jobs, at(3_601)), Some(at(3_602)));
        assert_eq!(soonest(&jobs, at(3_602)), None, "what can't be deleted is no reason for haste");
    }

    #[test]
    fn of_many_late_jobs_a_bounded_number_goes_at_a_time_and_each_has_its_turn() {
        let jobs: Vec<_> = (0..2 * DROPS + 2)
            .map(|number| seen("acme", &number.to_string(), "s", 0, Stage::Waits))
            .collect();
        let mut reached = HashSet::new();
        for second in 0..jobs.len() {
            let now = at(3_600 + i64::try_from(second).expect("few"));
            let steps = next(&jobs, 2, now);
            assert_eq!(steps.len(), DROPS);
            reached.extend(steps.iter().map(|step| match step {
                Step::Drop(job) => job.name.clone(),
                Step::Release(job) => panic!("{} is late", job.name),
            }));
        }
        assert_eq!(reached.len(), jobs.len(), "those that can't be deleted keep no other waiting");
    }

    fn any_job() -> impl Strategy<Value = (u8, u8, u8, i64, u8)> {
        (0_u8..4, 0_u8..6, 0_u8..3, 0_i64..4_000, 0_u8..6)
    }

    proptest! {
        /// Whatever there is, and however often it is decided.
        #[test]
        fn the_cap_holds_nothing_begins_twice_and_no_place_stays_empty(
            all in proptest::collection::vec(any_job(), 0..60), most in 1_usize..5,
        ) {
            let mut jobs: Vec<_> = all.into_iter().enumerate().map(|(number, (namespace, connection, store, created, stage))| {
                let stage = match stage {
                    0 => Stage::Runs,
                    1 => Stage::Ended(End { at: at(created), failure: None }),
                    _ => Stage::Waits,
                };
                let mut seen = seen(&format!("n{namespace}"), &format!("c{connection}"), &format!("s{store}"), created, stage);
                seen.job.uid = number.to_string();
                seen
            }).collect();
            let before = jobs.clone();
            let running = |jobs: &[Seen], store: &str| jobs.iter().filter(|seen| runs(seen) && seen.job.store == store).count();
            let steps: Vec<_> = next(&before, most, at(4_000)).into_iter().map(|step| match step {
                Step::Release(job) => (true, job.uid.clone()),
                Step::Drop(job) => (false, job.uid.clone()),
            }).collect();
            for (is_release, uid) in &steps {
                let place = jobs.iter().position(|seen| seen.job.uid == *uid).expect("one of them, once");
                prop_assert!(waits(&jobs[place]));
                prop_assert_eq!(jobs[place].next.expect("known") <= at(4_000), !is_release);
                if *is_release { jobs[place].is_released = true } else { drop(jobs.remove(place)) }
            }
            for store in ["s0", "s1", "s2"] {
                let was = running(&before, store);
                prop_assert!(running(&jobs, store) <= most.max(was));
            }
            prop_assert_eq!(next(&jobs, most, at(4_000)), Vec::new(), "everything that can begin has begun");
        }
    }
}
