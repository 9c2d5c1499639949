//! What holds for every plan under freezes, over random estates, histories and freezes.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward::domain::check::check;
use keyward::domain::execution::Stage;
use keyward::domain::freeze::{Emergency, Freeze, Scope};
use keyward::domain::id::{CredentialId, IssuerId};
use keyward::domain::inventory::Estate;
use keyward::domain::plan::{Action, ActionKind, HeldReason, PlanInput, plan, schedule_of};
use keyward::domain::time::{HOUR, Timestamp};
use proptest::prelude::*;

use super::{fid, freeze};
use crate::harness::estate::path;
use crate::plan::{Scene, scene};

/// A random scene under random freezes: paths over some credentials, owners and labels on others.
#[derive(Debug)]
struct Frozen {
    scene: Scene,
}

fn frozen_scene() -> impl Strategy<Value = Frozen> {
    let over = prop::sample::select(vec![
        "all",
        "path:p0",
        "path:p1",
        "owner:odd",
        "owner:even",
        "issuer:le",
        "issuer:zero",
        "issuer:free",
        "label:k=0",
        "label:k=1",
    ]);
    let freezes = prop::collection::vec((over, -200_i64..2_000), 1..5);
    (scene(), freezes, any::<bool>(), 0_u32..400).prop_map(|(mut scene, freezes, allow, margin)| {
        let ids: Vec<CredentialId> = scene.estate.credentials.keys().cloned().collect();
        for (n, id) in ids.iter().enumerate() {
            let mut credential = (*scene.estate.credentials[id]).clone();
            credential.owner = Some(if n % 2 == 0 { "even" } else { "odd" }.into());
            credential.labels.insert("k".into(), (n % 3).to_string());
            scene.estate.credentials.insert(id.clone(), Arc::new(credential));
        }
        let every = |k: usize| ids.iter().skip(k).step_by(3).map(CredentialId::as_str).collect::<Vec<_>>();
        path(&mut scene.estate, "p0", &every(0), HOUR * margin);
        path(&mut scene.estate, "p1", &every(1), HOUR);
        scene.estate.freezing.emergency = if allow { Emergency::Allow } else { Emergency::Block };
        for (n, (over, hours)) in (0_u8..).zip(freezes) {
            let until = Timestamp::from_unix(scene.now.unix() + hours * 3_600);
            scene.state.freezes.insert(fid(n), freeze(over, until));
        }
        Frozen { scene }
    })
}

/// Written apart from the rule: whether a freeze in force is over this credential's actions at this issuer.
fn covered(scene: &Scene, id: &CredentialId, issuer: Option<&IssuerId>) -> bool {
    let credential = &scene.estate.credentials[id];
    let over = |freeze: &Freeze| match &freeze.scope {
        Scope::All => true,
        Scope::Path(path) => scene.estate.paths[path].needs.contains(id),
        Scope::Owner(owner) => credential.owner.as_deref() == Some(owner),
        Scope::Issuer(frozen) => issuer == Some(frozen),
        Scope::Label { key, value } => credential.labels.get(&**key).map(String::as_str) == Some(value),
    };
    scene.state.freezes.values().any(|freeze| freeze.until > scene.now && over(freeze))
}

fn can_wait(scene: &Scene, estate: &Estate, id: &CredentialId) -> bool {
    let managed = estate.credentials[id].managed().unwrap();
    let Some(schedule) = schedule_of(managed, &scene.state.credential(id)) else { return true };
    let margins = estate.paths.values().filter(|p| p.needs.contains(id)).map(|p| p.margin);
    scene.now.plus(margins.max().unwrap_or_default()) < schedule.emergency_at
}

/// Whether an action must not be in a plan.
fn blocked(scene: &Scene, action: &Action) -> bool {
    let id = &action.credential;
    let issuer = match &action.kind {
        ActionKind::Issue(issue) => Some(issue.issuer.clone()),
        ActionKind::Reinstall(_) => scene.state.credential(id).current.clone().map(|g| g.issuer),
        ActionKind::Resume(attempt) => {
            let attempt = &scene.state.attempts[attempt];
            if matches!(attempt.stage, Stage::Ordered { .. }) {
                return false;
            }
            Some(attempt.issuer.clone())
        }
    };
    let exempt = scene.estate.freezing.emergency == Emergency::Allow && !can_wait(scene, &scene.estate, id);
    !exempt && covered(scene, id, issuer.as_ref())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_checker_accepts_every_plan_under_freezes(Frozen { scene } in frozen_scene()) {
        let sightings = BTreeMap::new();
        let input = scene.input(&sightings);
        let made = plan(&input);
        prop_assert_eq!(check(&made, &input), Ok(()));
        prop_assert_eq!(&made, &plan(&input));
    }

    #[test]
    fn nothing_frozen_is_acted_on_but_an_emergency_that_is_allowed_and_an_order_at_its_ca(Frozen { scene } in frozen_scene()) {
        let sightings = BTreeMap::new();
        for action in plan(&scene.input(&sightings)).actions {
            prop_assert!(!blocked(&scene, &action), "{} is frozen, and: {:?}", action.credential, action.kind);
        }
    }

    #[test]
    fn a_freeze_makes_nothing_happen_that_would_not_happen_without_it(Frozen { scene } in frozen_scene()) {
        let sightings = BTreeMap::new();
        let mut without = scene.state.clone();
        without.freezes.clear();
        for action in plan(&scene.input(&sightings)).actions {
            // Alone, or another that is frozen would leave it its token or its place.
            let due = [action.credential.clone()];
            let alone = plan(&PlanInput { state: &without, due: &due, ..scene.input(&sightings) });
            prop_assert_eq!(alone.actions.len(), 1, "{} only under a freeze: {:?}", action.credential, alone.held);
        }
    }

    #[test]
    fn what_is_held_by_a_freeze_says_by_which_and_is_looked_at_again_in_time(Frozen { mut scene } in frozen_scene()) {
        let sightings = BTreeMap::new();
        let made = plan(&scene.input(&sightings));
        let frozen: Vec<_> = made.held.iter().filter(|h| h.reason.frozen_by().is_some()).cloned().collect();
        for held in &frozen {
            let by = held.reason.frozen_by().unwrap();
            prop_assert!(!by.is_empty() && held.until.is_some_and(|until| until > scene.now));
            let ends = |n: usize| scene.state.freezes[&by[n].0].until;
            prop_assert!((0..by.len()).all(|n| ends(n) > scene.now && ends(n) <= ends(0)));
            prop_assert!(held.until.unwrap() <= ends(0) || ends(0) <= scene.now);
        }
        // Once all are over, the same plan is made as if there never had been any.
        let end = scene.state.freezes.values().map(|f| f.until).max().unwrap();
        scene.now = scene.now.max(end);
        let after = plan(&scene.input(&sightings));
        let mut without = scene.state.clone();
        without.freezes.clear();
        prop_assert_eq!(&after, &plan(&PlanInput { state: &without, ..scene.input(&sightings) }));
        prop_assert!(after.held.iter().all(|h| !matches!(h.reason, HeldReason::Frozen(_))));
    }

    #[test]
    fn the_checker_refuses_a_plan_that_knows_nothing_of_the_freezes(Frozen { scene } in frozen_scene()) {
        let sightings = BTreeMap::new();
        let input = scene.input(&sightings);
        let mut without = scene.state.clone();
        without.freezes.clear();
        let blind = plan(&PlanInput { state: &without, ..input });
        let said = check(&blind, &input).map_err(|v| v.to_string());
        if blind.actions.iter().any(|action| blocked(&scene, action)) {
            prop_assert!(said.as_ref().is_err_and(|text| text.contains("although freeze")), "{said:?}");
        } else {
            prop_assert_eq!(said, Ok(()));
        }
    }
}

#[test]
fn what_can_wait_does_not_go_to_another_issuer_for_a_freeze_and_what_cannot_does() {
    let past = |permille| crate::plan::Past { age_permille: permille, issuers: 2, ..crate::plan::due() };
    let made = |permille, emergency| {
        let mut scene = Scene::build(&[past(permille)], &[(0, None); 3], &[], 8);
        scene.estate.freezing.emergency = emergency;
        scene.state.freezes.insert(fid(1), freeze("issuer:le", scene.now.plus(HOUR)));
        let sightings = BTreeMap::new();
        let made = plan(&scene.input(&sightings));
        assert_eq!(check(&made, &scene.input(&sightings)), Ok(()));
        match made.actions.first().map(|a| &a.kind) {
            Some(ActionKind::Issue(issue)) => issue.issuer.as_str().to_owned(),
            Some(other) => panic!("{other:?}"),
            None => made.held[0].reason.text(),
        }
    };
    assert_eq!(made(900, Emergency::Allow), format!("frozen: issuer:le by freeze {}", fid(1)));
    assert_eq!(made(960, Emergency::Allow), "le");
    assert_eq!(made(960, Emergency::Block), "zero");
}
