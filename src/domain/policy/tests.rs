//! Tables and properties of decisions.

use std::collections::BTreeMap;

use super::*;

fn rule(id: &str, acts: &[Act], labels: &[(&str, &str)], min_tier: u32, lane: Lane) -> Rule {
    let mut rule = Rule::new(id, acts.iter().copied(), lane);
    rule.when.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    rule.when.tier = Range::from(min_tier);
    rule
}

#[test]
fn the_first_matching_rule_decides_and_is_named() {
    let policy = Policy::new(vec![
        rule("no-reissue-in-prod", &[Act::Reissue], &[("env", "prod")], 0, Lane::Prohibited),
        rule("review-high", &[], &[], 3, Lane::ReviewRequired),
    ]);
    let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let cases = [
        (Act::Reissue, 1, Verdict::Refuse, "no-reissue-in-prod"),
        (Act::Renew, 1, Verdict::Proceed, DEFAULT_RULE),
        (Act::Renew, 2, Verdict::AwaitApproval, "review-high"),
    ];
    for (act, paths, verdict, rule) in cases {
        let decision = decide(&Subject::new(act, &prod, paths), &policy);
        assert_eq!((decision.verdict, &*decision.rule), (verdict, rule));
    }
}

#[test]
fn the_version_changes_with_any_byte_of_a_rule() {
    let base = Policy::new(vec![rule("a", &[Act::Renew], &[], 0, Lane::Autonomous)]);
    let other = Policy::new(vec![rule("a", &[Act::Renew], &[], 1, Lane::Autonomous)]);
    assert_ne!(base.version(), other.version());
    assert_ne!(base.version(), Policy::default().version());
}

#[test]
fn without_any_policy_what_goes_today_goes_and_the_rest_waits() {
    let none = BTreeMap::new();
    for (act, _) in Act::ALL {
        let decision = decide(&Subject::new(act, &none, 5), &Policy::default());
        let routine = [Act::Issue, Act::Renew, Act::Reissue, Act::Reinstall, Act::AcmeOrder].contains(&act);
        assert_eq!(decision.verdict, if routine { Verdict::Proceed } else { Verdict::AwaitApproval }, "{act:?}");
        assert_eq!(decision.quorum.persons() == 0, routine, "{act:?}");
    }
}

#[test]
fn a_rule_that_asks_for_what_is_not_known_lets_nothing_go_and_hides_no_other() {
    let none = BTreeMap::new();
    let mut quiet = rule("quiet", &[Act::Renew], &[], 0, Lane::Autonomous);
    quiet.when.failures = Range { min: 0, max: Some(1) };
    let never = rule("never", &[Act::Renew], &[], 0, Lane::Prohibited);
    let subject = |failures| Subject { failures, ..Subject::new(Act::Renew, &none, 0).quiet() };
    let policy = Policy::new(vec![quiet.clone(), never]);
    let said = |policy: &Policy, failures| decide(&subject(failures), policy).verdict;
    assert_eq!(
        [Some(0), Some(2), None].map(|f| said(&policy, f)),
        [Verdict::Proceed, Verdict::Refuse, Verdict::Refuse]
    );
    let alone = Policy::new(vec![quiet, rule("rest", &[], &[], 0, Lane::Autonomous)]);
    assert_eq!(said(&alone, None), Verdict::AwaitApproval, "though both alternatives are autonomous");
    let told = explain(&subject(None), &alone);
    assert_eq!((told.rules[0].part, told.rules[1].part), (Part::Decided, Part::Weighed));
    assert_eq!(told.rules[0].against, [("failures", "at most 1".to_owned(), "not known".to_owned())]);
}

#[test]
fn a_period_that_is_described_nowhere_may_be_on() {
    let mut odd = rule("odd", &[], &[], 0, Lane::Autonomous);
    odd.when.not_during = ["year-end".into()].into();
    let none = BTreeMap::new();
    let decision = decide(&Subject::new(Act::Renew, &none, 0).quiet(), &Policy::new(vec![odd]));
    assert_eq!(decision.verdict, Verdict::AwaitApproval);
}

#[test]
fn rules_without_new_conditions_keep_their_digest() {
    // As computed before there were files, hours and approvals: an upgrade changes no decision's digest.
    let old = r#"[{"acts":["reissue"],"id":"no-reissue","labels":["env=prod"],"lane":"prohibited","min_tier":2}]"#;
    let now = Policy::new(vec![rule("no-reissue", &[Act::Reissue], &[("env", "prod")], 2, Lane::Prohibited)]);
    assert_eq!(now.version(), Digest::of(old.as_bytes()));
}

#[test]
fn no_voice_is_above_a_prohibition() {
    let none = BTreeMap::new();
    let voice = |person: &str| Voice { person: person.into(), groups: [person.into()].into(), says: Says::Yes };
    let all = [voice("ann"), voice("bob"), voice("cat")];
    let leave = |lane| {
        let policy = Policy::new(vec![rule("a", &[], &[], 0, lane)]);
        decide(&Subject::new(Act::Revoke, &none, 2), &policy).leave_signed(&all, &Duties::default())
    };
    assert!(leave(Lane::Autonomous).is_ok() && leave(Lane::ReviewRequired).is_ok());
    assert_eq!(leave(Lane::Prohibited).unwrap_err(), Withheld::Prohibited);
    let unsigned = decide(&Subject::new(Act::Revoke, &none, 2), &Policy::default());
    assert!(matches!(unsigned.leave_signed(&all[..1], &Duties::default()), Err(Withheld::Short(_))));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn act() -> impl Strategy<Value = Act> {
        proptest::sample::select(Act::ALL.map(|(act, _)| act).to_vec())
    }

    fn lane() -> impl Strategy<Value = Lane> {
        proptest::sample::select(Lane::ALL.map(|(lane, _)| lane).to_vec())
    }

    fn range(most: u32) -> impl Strategy<Value = Range> {
        prop_oneof![
            3 => Just(Range::default()),
            1 => (0..=most, proptest::option::of(0..=most)).prop_map(|(min, max)| Range { min, max }),
        ]
    }

    fn label() -> impl Strategy<Value = (String, String)> {
        let key = proptest::sample::select(vec!["env", "data_class", "team"]);
        let value = proptest::sample::select(vec!["prod", "production", "dev", "restricted"]);
        (key, value).prop_map(|(k, v)| (k.to_owned(), v.to_owned()))
    }

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map(
            proptest::sample::select(vec!["env", "data_class", "team"]).prop_map(str::to_owned),
            proptest::sample::select(vec!["prod", "production", "dev", "restricted"]).prop_map(str::to_owned),
            0..3,
        )
    }

    fn history() -> impl Strategy<Value = History> {
        proptest::sample::select(History::ALL.map(|(history, _)| history).to_vec())
    }

    fn need() -> impl Strategy<Value = Need> {
        (1_u8..4, 0_u8..3, proptest::collection::btree_set(proptest::sample::select(vec!["a", "b", "c"]), 0..3))
            .prop_map(|(persons, groups, of)| Need { persons, groups, of: of.into_iter().map(Arc::from).collect() })
    }

    fn conditions() -> impl Strategy<Value = Conditions> {
        let names = || proptest::collection::btree_set(Just(Arc::from("year-end")), 0..2);
        let counts = (range(4), range(3), range(3), range(2));
        let place = (proptest::collection::vec(label(), 0..2), any::<bool>(), any::<bool>());
        let time = (proptest::option::of(any::<bool>()), names(), names());
        let rest = (proptest::collection::btree_set(history(), 0..2), proptest::option::of(any::<bool>()));
        (counts, place, time, rest).prop_map(
            |(counts, (labels, lacks, owners), (hours, during, not_during), (issuer, undo))| {
                let (tier, failures, flaps, incidents) = counts;
                Conditions {
                    labels: labels.into_iter().collect(),
                    lacks: if lacks { ["team".to_owned()].into() } else { Default::default() },
                    owners: if owners { ["ann".to_owned()].into() } else { Default::default() },
                    tier,
                    hours: hours.map(|h| if h { Hours::Business } else { Hours::Off }),
                    during,
                    not_during,
                    failures,
                    flaps,
                    incidents,
                    issuer,
                    undo: undo.map(|u| if u { Undo::Possible } else { Undo::Never }),
                }
            },
        )
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let acts = proptest::collection::btree_set(act(), 0..4);
        (acts, prop_oneof![Just(Conditions::default()), conditions()], lane(), proptest::option::of(need()))
            .prop_map(|(acts, when, lane, need)| Rule { id: "r".into(), acts, when, lane, need })
    }

    fn calendar() -> Calendar {
        calendar_with("2026-12-25")
    }

    fn calendar_with(holiday: &str) -> Calendar {
        Calendar {
            zone: jiff::tz::TimeZone::UTC,
            business: Weekly {
                days: [true, true, true, true, true, false, false],
                from_minute: 540,
                until_minute: 1_020,
            },
            holidays: [Date::parse(holiday).unwrap()].into(),
        }
    }

    fn policy() -> impl Strategy<Value = Policy> {
        policy_of(6)
    }

    fn few_rules() -> impl Strategy<Value = Policy> {
        policy_of(3)
    }

    fn policy_of(most: usize) -> impl Strategy<Value = Policy> {
        let otherwise = proptest::sample::select(vec![Otherwise::Routine, Otherwise::Review, Otherwise::Prohibit]);
        (proptest::collection::vec(any_rule(), 0..most), otherwise, 0_u8..3, any::<bool>()).prop_map(
            |(mut rules, otherwise, which, has_period)| {
                for (i, rule) in rules.iter_mut().enumerate() {
                    rule.id = format!("r{i}").into();
                }
                let day = |text| Date::parse(text).unwrap();
                let year_end = Period::Dates { from: day("2026-12-18"), until: day("2027-01-03") };
                let setting = Setting {
                    otherwise,
                    calendar: [None, Some(calendar()), Some(calendar_with("2026-12-02"))][usize::from(which)].clone(),
                    periods: if has_period { [("year-end".into(), year_end)].into() } else { Default::default() },
                    ..Setting::default()
                };
                Policy::with_setting(rules, setting)
            },
        )
    }

    /// A subject that owns what it points to.
    #[derive(Clone, Debug)]
    struct Owned {
        labels: BTreeMap<String, String>,
        owner: Option<String>,
        rest: Subject<'static>,
    }

    impl Owned {
        fn subject(&self) -> Subject<'_> {
            Subject { labels: &self.labels, owner: self.owner.as_deref(), ..self.rest }
        }
    }

    static NONE: BTreeMap<String, String> = BTreeMap::new();

    fn subject() -> impl Strategy<Value = Owned> {
        let count = || proptest::option::of(0_u32..5);
        let local = proptest::option::of((0_i64..40, 0_u16..1_440));
        let head = (act(), labels(), 0_usize..4, 0_usize..12, any::<bool>());
        let facts = (local, count(), count(), count(), proptest::option::of(history()), any::<bool>());
        (head, facts, proptest::option::of(0_u8..5)).prop_map(|((act, labels, paths, services, owned), facts, tier)| {
            let (local, failures, flaps, incidents, issuer, undo) = facts;
            let day = |n| Date::parse("2026-12-01").unwrap().shifted(n).unwrap();
            let rest = Subject {
                services,
                local: local.map(|(days, minute)| calendar().on(day(days), minute)),
                failures,
                flaps,
                incidents,
                issuer,
                undo: if undo { Undo::Possible } else { Undo::Never },
                tier: tier.map(Tier::new),
                ..Subject::new(act, &NONE, paths)
            };
            Owned { labels, owner: owned.then(|| "ann".to_owned()), rest }
        })
    }

    fn voices() -> impl Strategy<Value = Vec<Voice>> {
        let groups = proptest::collection::btree_set(proptest::sample::select(vec!["a", "b", "c", "d"]), 0..3);
        let one = (proptest::sample::select(vec!["ann", "bob", "cat", "dan", "eve"]), groups, 0..8_u8).prop_map(
            |(person, groups, no)| Voice {
                person: person.into(),
                groups: groups.into_iter().map(Arc::from).collect(),
                says: if no == 0 { Says::No } else { Says::Yes },
            },
        );
        proptest::collection::vec(one, 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_policy_whatsoever_lets_an_act_of_the_floor_go_by_itself(policy in policy(), owned in subject()) {
            let mut owned = owned;
            for (act, least) in floor::FLOOR {
                owned.rest.act = act;
                let decision = decide(&owned.subject(), &policy);
                prop_assert_ne!(decision.verdict, Verdict::Proceed);
                prop_assert!(decision.tier >= least);
                if decision.verdict == Verdict::AwaitApproval {
                    // Whatever the policy calls business hours, the table is the least.
                    let table = standing(decision.tier, Some(Hours::Business));
                    prop_assert!(decision.quorum.needs().iter().any(|need| need.implies(&table)));
                }
            }
        }

        #[test]
        fn the_same_inputs_give_the_same_decision_and_explanation(policy in policy(), owned in subject()) {
            let subject = owned.subject();
            let decision = decide(&subject, &policy);
            prop_assert_eq!(&decision, &decide(&subject.clone(), &policy.clone()));
            let told = explain(&subject, &policy);
            prop_assert_eq!(&told.decision, &decision);
            prop_assert_eq!(told.rules.iter().filter(|r| r.part == Part::Decided).count(), usize::from(!decision.rule.contains(": ")));
        }

        #[test]
        fn adding_a_prohibition_anywhere_never_makes_anything_easier(
            policy in policy(), added in any_rule(), at in 0_usize..6, owned in subject()
        ) {
            let mut rules = policy.rules().to_vec();
            let added = Rule { lane: Lane::Prohibited, id: "added".into(), ..added };
            rules.insert(at.min(rules.len()), added);
            let stricter = Policy::with_setting(rules, policy.setting().clone());
            let (before, after) = (judge(&owned.subject(), &policy), judge(&owned.subject(), &stricter));
            prop_assert!(after.lane >= before.lane);
        }

        #[test]
        fn asking_for_more_approvals_never_asks_for_fewer(policy in policy(), need in need(), owned in subject()) {
            let mut setting = policy.setting().clone();
            setting.needs.push(TierNeed { min_tier: Tier::LOWEST, hours: None, need });
            let stricter = Policy::with_setting(policy.rules().to_vec(), setting);
            let (before, after) = (judge(&owned.subject(), &policy), judge(&owned.subject(), &stricter));
            prop_assert_eq!(after.lane, before.lane);
            prop_assert!(after.quorum.implies(&before.quorum));
        }

        #[test]
        fn knowing_less_never_makes_anything_easier(policy in policy(), owned in subject(), forget in 0_u8..32) {
            let known = owned.subject();
            let keep = |bit: u8| forget & (1 << bit) == 0;
            let less = Subject {
                local: known.local.filter(|_| keep(0)),
                failures: known.failures.filter(|_| keep(1)),
                flaps: known.flaps.filter(|_| keep(2)),
                incidents: known.incidents.filter(|_| keep(3)),
                issuer: known.issuer.filter(|_| keep(4)),
                ..known
            };
            prop_assert!(judge(&less, &policy).lane >= judge(&known, &policy).lane);
        }

        #[test]
        fn a_voice_less_or_a_no_more_never_meets_what_was_not_met(
            policy in policy(), owned in subject(), voices in voices(), remove in 0_usize..6, barred in any::<bool>()
        ) {
            let quorum = judge(&owned.subject(), &policy).quorum;
            let duties = if barred { Duties::default().with("ann", Duty::Requester) } else { Duties::default() };
            let met = quorum.met(&voices, &duties).is_ok();
            let mut fewer: Vec<Voice> = voices.iter().filter(|v| v.says == Says::Yes).cloned().collect();
            let all_yes = quorum.met(&fewer, &duties).is_ok();
            prop_assert!(!met || all_yes);
            if remove < fewer.len() {
                fewer.remove(remove);
            }
            prop_assert!(all_yes || quorum.met(&fewer, &duties).is_err());
            let mut no = voices.clone();
            no.push(Voice { person: "zoe".into(), groups: Default::default(), says: Says::No });
            prop_assert!(quorum.met(&no, &duties).is_err());
            prop_assert!(quorum.met(&[], &duties).is_err());
            prop_assert!(!met || quorum.met(&voices, &duties.with("nobody", Duty::Executor)).is_ok());
        }

        #[test]
        fn what_implies_a_quorum_meets_it(one in proptest::collection::vec(need(), 1..4), other in need(), voices in voices()) {
            let quorum = |needs: &[Need]| {
                let mut quorum = Quorum::default();
                needs.iter().for_each(|need| quorum.add(need));
                quorum
            };
            let (strong, weak) = (quorum(&one), quorum(core::slice::from_ref(&other)));
            let met = |quorum: &Quorum| quorum.met(&voices, &Duties::default()).is_ok();
            prop_assert!(!strong.implies(&weak) || !met(&strong) || met(&weak));
            // Leaving out what is implied changes nothing.
            let each = one.iter().all(|need| met(&quorum(core::slice::from_ref(need))));
            prop_assert_eq!(met(&strong), each);
        }

        #[test]
        fn the_digest_of_the_inputs_is_over_all_of_them(one in subject(), other in subject()) {
            let same = one.subject() == other.subject();
            prop_assert_eq!(one.subject().digest() == other.subject().digest(), same);
        }

        #[test]
        fn policies_that_differ_have_different_digests(one in policy(), other in policy()) {
            let same = one.rules() == other.rules() && one.setting() == other.setting();
            prop_assert_eq!(one.version() == other.version(), same);
        }
    }

    proptest! {
        // Each looks at thousands of examples.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_change_is_missing_in_a_comparison(before in few_rules(), after in few_rules(), owned in subject()) {
            let subject = Subject {
                local: owned.rest.local.or(Some(calendar().on(Date::parse("2026-12-02").unwrap(), 600))),
                failures: owned.rest.failures.or(Some(0)),
                flaps: owned.rest.flaps.or(Some(0)),
                incidents: owned.rest.incidents.or(Some(0)),
                issuer: owned.rest.issuer.or(Some(History::Usual)),
                undo: owned.rest.act.undo(),
                tier: None,
                ..owned.subject()
            };
            let seen_by = |policy: &Policy| {
                let calendar = policy.setting().calendar.as_ref();
                let local = subject.local.zip(calendar).map(|(local, calendar)| calendar.on(local.date, local.minute));
                judge(&Subject { local, ..subject }, policy)
            };
            let changes = compare(&before, &after);
            prop_assume!(changes.is_ok());
            let (was, is) = (seen_by(&before), seen_by(&after));
            let found = changes.unwrap().into_iter().any(|c| {
                c.act == subject.act && (c.before.lane, c.after.lane) == (was.lane, is.lane) && c.before.course(&c.after) == was.course(&is)
            });
            prop_assert!(was.course(&is).is_none() || found, "{} {:?} {:?}", subject, was, is);
        }
    }
}
