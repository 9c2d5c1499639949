//! Where an escalation stands: which step it has come to, who is told, when it goes on, and when to remind.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::deadline::step_timeout;
use super::route::{Routes, TeamId, Told, Way};
use crate::domain::exception::{Moment, People};
use crate::domain::time::{MINUTE, Timestamp};

/// Whoever says that they look at it is not reminded for so long: long enough to read it, short enough that it is not
/// forgotten. The clock goes on meanwhile.
pub const ACKNOWLEDGED: Duration = Duration::from_secs(15 * 60);
/// Else people are reminded this often.
pub const REMIND_EVERY: Duration = Duration::from_secs(5 * 60);

/// Whom and what a step can reach now.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// What is configured.
    pub routes: &'a Routes,
    /// Everybody who is known.
    pub people: &'a People,
    /// Channels over which nothing goes out.
    pub dead: &'a BTreeSet<Arc<str>>,
}

/// Where an escalation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'r> {
    /// Which step, counted from 1, as [`crate::domain::exception::Event::Escalated`] has it.
    pub step: u32,
    /// Whose it is; incident command has no team.
    pub team: Option<&'r TeamId>,
    /// Since when.
    pub since: Moment,
    /// Who is told, and over what.
    pub told: Told,
    /// When it goes on to the next step; never from the last one.
    pub until: Option<Timestamp>,
    /// When to remind next.
    pub remind: Timestamp,
}

/// What an escalation goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The step it has come to, and since when; the first one begins with the review.
    pub step: u32,
    /// Since when.
    pub since: Moment,
    /// When somebody last said that they look at it.
    pub acknowledged: Option<Timestamp>,
    /// The last moment at which a decision is early enough.
    pub decide_by: Timestamp,
}

/// Where an escalation stands now, from where it stood. It only goes on, never back: a wall clock that was set back makes
/// nobody hear less or later. A step that reaches nobody takes no time at all, and past the last safe moment none does: then
/// it is incident command's. Where that reaches nobody either, everybody is told whom any step reaches.
#[must_use]
pub fn walk<'r>(way: &Way<'r>, from: &Walk, reach: &Reach<'_>, now: &Moment) -> Option<Place<'r>> {
    let place = |step: u32| usize::try_from(step.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = u32::try_from(way.steps.len()).unwrap_or(u32::MAX);
    let now = now.after(&from.since).wall;
    let (mut step, mut since) = (from.step.min(last).max(1), from.since.wall);
    loop {
        let (team, what) = *way.steps.get(place(step))?;
        let mut told = what.told(reach.routes, reach.people, reach.dead, now);
        let ends = since.plus(step_timeout(what.timeout, since, from.decide_by)).min(from.decide_by.max(since));
        let until = if told.reaches_nobody() { since } else { ends };
        if step < last && until <= now {
            (step, since) = (step.saturating_add(1), until);
            continue;
        }
        if step == last && told.reaches_nobody() {
            let all = way.steps.iter().map(|(_, step)| step.told(reach.routes, reach.people, reach.dead, now));
            told = all.fold(told, Told::and);
        }
        let until = (step < last).then_some(until);
        let remind = remind(from, since, now);
        let boot = from.since.boot.plus(from.since.wall.until(since));
        let since = Moment { wall: since, boot, boot_id: from.since.boot_id.clone() };
        return Some(Place { step, team, since, told, until, remind });
    }
}

/// The next reminder: at the pace of reminders, and after an acknowledgement a little later. One that lies in the future
/// keeps nobody quiet, nor does one of an earlier step: whoever is told now has said nothing.
fn remind(from: &Walk, since: Timestamp, now: Timestamp) -> Timestamp {
    let passed = now.since(since).as_secs();
    let every = REMIND_EVERY.as_secs();
    let next = since.plus(Duration::from_secs((passed / every).saturating_add(1).saturating_mul(every)));
    let quiet = from.acknowledged.filter(|at| since <= *at && *at <= now).map(|at| at.plus(ACKNOWLEDGED));
    quiet.map_or(next, |quiet| next.max(quiet))
}

const _: () = assert!(ACKNOWLEDGED.as_secs() <= 15 * MINUTE.as_secs(), "no acknowledgement is longer");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::escalation::{Handover, Override, Schedule, ScheduleId, Step, Target, Team, Zone, route};
    use crate::domain::exception::{Consent, GroupId, Nature, Person, PersonId, Presence, Role};
    use crate::domain::time::{Boottime, DAY, HOUR};

    const START: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn who(name: &str) -> PersonId {
        PersonId::new(name)
    }

    fn step(targets: Vec<Target>, minutes: u32, channels: &[&str]) -> Step {
        let channels = channels.iter().map(|c| Arc::from(*c)).collect();
        Step { targets, timeout: MINUTE * minutes, channels }
    }

    fn routes() -> Routes {
        let team = |name: &str| TeamId(Arc::from(name));
        let on_call = || vec![Target::OnCall(ScheduleId(Arc::from("web")))];
        let everybody = || vec![Target::Group(GroupId::new("web"))];
        let web = Team {
            steps: vec![step(on_call(), 15, &["mail", "chat"]), step(everybody(), 30, &["mail"])],
            next: Some(team("core")),
        };
        // A circle: core goes back to web.
        let core =
            Team { steps: vec![step(vec![Target::Person(who("cleo"))], 10, &["mail"])], next: Some(team("web")) };
        let schedule = Schedule {
            turns: vec![who("ann"), who("abe")],
            handover: Handover { first_day: START.unix() / 86_400, minute: 0, every_days: 7 },
            zone: Zone::utc(),
            overrides: Vec::new(),
        };
        Routes {
            owners: BTreeMap::from([(Arc::from("web"), team("web")), (Arc::from("lost"), team("gone"))]),
            teams: BTreeMap::from([(team("web"), web), (team("core"), core)]),
            schedules: BTreeMap::from([(ScheduleId(Arc::from("web")), schedule)]),
            command: step(vec![Target::Person(who("chief"))], 5, &["phone"]),
        }
    }

    fn people() -> People {
        let person = |groups: &[&str]| Person {
            nature: Nature::Human,
            groups: groups.iter().map(|g| GroupId::new(*g)).collect(),
            roles: BTreeSet::from([Role::Approver]),
            presence: Presence::Here,
            consent: Consent::May { since: START },
            acts_for: None,
        };
        [("ann", &["web"][..]), ("abe", &["web"]), ("cleo", &["core"]), ("chief", &[])]
            .map(|(name, groups)| (who(name), person(groups)))
            .into()
    }

    /// So long after the start, by both clocks.
    fn moment(span: Duration) -> Moment {
        let boot = Boottime::from_boot(Duration::from_secs(500)).plus(span);
        Moment { wall: START.plus(span), boot, boot_id: Arc::from("boot") }
    }

    fn from(decide_by: Timestamp) -> Walk {
        Walk { step: 1, since: moment(Duration::ZERO), acknowledged: None, decide_by }
    }

    fn at<'r>(routes: &'r Routes, people: &People, dead: &[&str], walked: &Walk, minutes: u32) -> Place<'r> {
        let dead = dead.iter().map(|c| Arc::from(*c)).collect();
        let reach = Reach { routes, people, dead: &dead };
        walk(&route(Some("web"), routes), walked, &reach, &moment(MINUTE * minutes)).unwrap()
    }

    fn told(place: &Place<'_>) -> Vec<String> {
        place.told.people.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_goes_from_the_owner_over_the_next_team_to_incident_command_and_stays_there() {
        let (routes, people) = (routes(), people());
        let walked = from(START.plus(DAY * 90));
        let rows: [(u32, u32, &[&str]); 7] = [
            (0, 1, &["ann"]),
            (14, 1, &["ann"]),
            (15, 2, &["abe", "ann"]),
            (44, 2, &["abe", "ann"]),
            (45, 3, &["cleo"]),
            (55, 4, &["chief"]),
            (60 * 24 * 80, 4, &["chief"]),
        ];
        for (minutes, step, who) in rows {
            let place = at(&routes, &people, &[], &walked, minutes);
            assert_eq!(
                (place.step, told(&place)),
                (step, who.iter().map(ToString::to_string).collect()),
                "{minutes} min"
            );
            assert_eq!(place.until.is_none(), step == 4);
        }
    }

    #[test]
    fn what_has_no_owner_or_no_team_is_incident_commands_at_once() {
        let routes = routes();
        for owner in [None, Some("nobody"), Some("lost")] {
            let way = route(owner, &routes);
            assert_eq!((way.steps.len(), way.steps[0].0), (1, None), "{owner:?}");
        }
    }

    #[test]
    fn nobody_on_call_and_dead_channels_are_skipped_at_once() {
        let (mut routes, mut people) = (routes(), people());
        let walked = from(START.plus(DAY));
        assert_eq!(at(&routes, &people, &["chat"], &walked, 0).step, 1, "mail still goes");
        // Mail is dead: the first step has chat, all others of teams have nothing.
        let place = at(&routes, &people, &["mail"], &walked, 15);
        assert_eq!((place.step, place.since), (4, moment(MINUTE * 15)));
        people.get_mut(&who("ann")).unwrap().presence = Presence::Absent(None);
        let place = at(&routes, &people, &[], &walked, 0);
        assert_eq!((place.step, told(&place)), (2, vec!["abe".to_owned()]));
        people.clear();
        // Nobody at all: incident command is where it stays, and it says that it reaches nobody.
        let place = at(&routes, &people, &[], &walked, 0);
        assert!(place.step == 4 && place.told.reaches_nobody());
        let schedule = routes.schedules.values_mut().next().unwrap();
        schedule.overrides.push(Override { from: START, until: START.plus(HOUR), who: None });
        assert_eq!(at(&routes, &self::people(), &[], &walked, 0).step, 2);
    }

    #[test]
    fn with_little_time_left_everybody_is_told_sooner() {
        let (routes, people) = (routes(), people());
        let walked = from(START.plus(MINUTE * 20));
        // A quarter of 20 minutes, then of 15, and so on.
        for (minutes, step) in [(0, 1), (4, 1), (5, 2), (8, 2), (9, 3), (12, 4)] {
            assert_eq!(at(&routes, &people, &[], &walked, minutes).step, step, "{minutes} min");
        }
    }

    #[test]
    fn an_acknowledgement_keeps_reminders_quiet_for_a_while_and_stops_no_clock() {
        let (routes, people) = (routes(), people());
        let walked = from(START.plus(DAY));
        assert_eq!(at(&routes, &people, &[], &walked, 7).remind, START.plus(MINUTE * 10));
        let acknowledged = Walk { acknowledged: Some(START.plus(MINUTE * 6)), ..walked.clone() };
        let place = at(&routes, &people, &[], &acknowledged, 7);
        assert_eq!(place.remind, START.plus(MINUTE * 21));
        assert_eq!(place.until, at(&routes, &people, &[], &walked, 7).until);
        // Those of the second step have acknowledged nothing.
        let second = at(&routes, &people, &[], &acknowledged, 15);
        assert_eq!((second.step, second.remind), (2, START.plus(MINUTE * 20)));
        // Of a time to come it is none.
        let early = Walk { acknowledged: Some(START.plus(DAY)), ..walked.clone() };
        assert_eq!(at(&routes, &people, &[], &early, 7).remind, START.plus(MINUTE * 10));
    }

    #[test]
    fn a_way_without_a_step_leads_nowhere() {
        let (routes, people, dead) = (routes(), people(), BTreeSet::new());
        let reach = Reach { routes: &routes, people: &people, dead: &dead };
        assert_eq!(walk(&Way { steps: Vec::new() }, &from(START), &reach, &moment(MINUTE)), None);
    }

    #[test]
    fn after_everybody_was_skipped_somebody_is_told_as_soon_as_anything_works() {
        let (routes, mut people) = (routes(), people());
        drop(people.remove(&who("chief")));
        let walked = from(START.plus(DAY));
        let place = at(&routes, &people, &["mail", "chat"], &walked, 0);
        assert!(place.step == 4 && place.told.reaches_nobody());
        let walked = Walk { step: place.step, since: place.since, ..walked };
        let place = at(&routes, &people, &[], &walked, 1);
        assert_eq!((place.step, told(&place)), (4, ["abe", "ann", "cleo"].map(str::to_owned).to_vec()));
        assert!(place.told.channels.contains("mail"));
    }

    #[test]
    fn past_the_last_safe_moment_no_step_keeps_it_from_incident_command() {
        let (mut routes, people) = (routes(), people());
        let web = routes.teams.get_mut(&TeamId(Arc::from("web"))).unwrap();
        web.steps = vec![step(vec![Target::Person(who("ann"))], 15, &["mail"]); 62];
        let walked = from(START.plus(MINUTE));
        assert_eq!(at(&routes, &people, &[], &walked, 0).step, 1);
        assert_eq!(told(&at(&routes, &people, &[], &walked, 1)), ["chief"]);
    }

    #[test]
    fn whose_absence_is_over_is_there() {
        let (routes, mut people) = (routes(), people());
        people.get_mut(&who("ann")).unwrap().presence = Presence::Absent(Some(START.plus(MINUTE)));
        let walked = from(START.plus(DAY));
        assert_eq!(told(&at(&routes, &people, &[], &walked, 0)), ["abe"]);
        assert_eq!(told(&at(&routes, &people, &[], &walked, 1)), ["ann"]);
    }

    proptest! {
        #[test]
        fn it_only_goes_on_and_reaches_incident_command_in_time(
            left in 1..200_000_u64,
            came in 1..5_u32,
            gone in proptest::collection::vec(0..4_usize, 0..3),
            at in 0..400_000_u64,
            more in 0..400_000_u64,
        ) {
            let (routes, mut people) = (routes(), people());
            let names = ["ann", "abe", "cleo", "chief"];
            gone.iter().for_each(|n| drop(people.remove(&who(names[*n]))));
            let dead = BTreeSet::new();
            let reach = Reach { routes: &routes, people: &people, dead: &dead };
            let way = route(Some("web"), &routes);
            let walked = Walk { step: came, ..from(START.plus(Duration::from_secs(left))) };
            let end = moment(Duration::from_secs(left));
            let (at, more) = (Duration::from_secs(at), Duration::from_secs(more));
            let one = walk(&way, &walked, &reach, &moment(at)).unwrap();
            let later = walk(&way, &walked, &reach, &moment(at + more)).unwrap();
            prop_assert!(one.step >= came && later.step >= one.step);
            let wall = START.plus(at);
            prop_assert!(one.remind > wall && one.remind <= wall.plus(REMIND_EVERY));
            // At the last safe moment it is there, however little time there was.
            prop_assert_eq!(walk(&way, &walked, &reach, &end).unwrap().step, 4);
            // A wall clock that was set back changes nothing.
            let back = Moment { wall: START.minus(DAY), ..moment(at) };
            prop_assert_eq!(&walk(&way, &walked, &reach, &back).unwrap(), &one);
            // Wherever it stands, going on from there leads to the same.
            let from_there = Walk { step: one.step, since: one.since.clone(), ..walked };
            prop_assert_eq!(walk(&way, &from_there, &reach, &moment(at)).unwrap(), one);
        }
    }
}
