//! What a call leaves out is a wish on top of what its balancer would choose.

use std::time::Duration;

use fleetward_core::balancing::{PickContext, ReadySet, pick_allowed};
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::endpoints::Member;
use fleetward_core::{Balanced, Balancer, DefaultEndpointer, InstanceId, Retry};
use tower::Layer;

use crate::support::{AskExt as _, Probe, instance, instances, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

/// Takes one instance and no other.
#[derive(Debug)]
struct Only(&'static str);

impl Balancer for Only {
    fn pick(&self, set: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        set.iter().position(|member| member.instance().id().as_str() == self.0)
    }
}

/// Looks at the exclusion itself, and chooses nobody if all are excluded.
#[derive(Debug)]
struct Strict;

impl Balancer for Strict {
    fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        set.iter().position(|member| !context.excludes(member))
    }
}

/// Always the same position, whether or not it is in the set.
#[derive(Debug)]
struct At(usize);

impl Balancer for At {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(self.0)
    }
}

fn pick(balancer: &dyn Balancer, all: &[&str], tried: &[&str]) -> Option<String> {
    let members: Vec<_> = all.iter().map(|a| Member::detached(instance(a))).collect();
    let tried: Vec<InstanceId> = tried.iter().map(|a| instance(a).id().clone()).collect();
    let context = PickContext::new().with_attempt(tried.len() as u32, &tried);
    let picked = pick_allowed(balancer, &ReadySet::new(&members), &context)?;
    Some(members[picked].instance().id().to_string())
}

#[test]
fn what_is_left_is_preferred_and_what_the_balancer_takes_is_never_refused() {
    type Case<'a> = (&'a dyn Balancer, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let cases: [Case<'_>; 11] = [
        (&Only(A), &[A, B], &[A], Some(A)),
        (&Only(A), &[A, B], &[A, B], Some(A)),
        (&Only(A), &[B, C], &[B], None),
        (&Only(A), &[B, C], &[], None),
        (&Strict, &[A, B], &[A], Some(B)),
        (&Strict, &[A, B], &[A, B], Some(A)),
        (&At(0), &[A, B, C], &[A], Some(B)),
        // In the part that is left, position 2 does not exist.
        (&At(2), &[A, B, C], &[C], Some(C)),
        (&At(1), &[A, B, C], &[B], Some(C)),
        (&At(3), &[A, B, C], &[B], None),
        (&At(0), &[], &[B], None),
    ];
    for (balancer, all, tried, expected) in cases {
        let picked = pick(balancer, all, tried);
        assert_eq!(picked.as_deref(), expected, "{balancer:?} of {all:?} after {tried:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_again_to_the_only_instance_that_its_balancer_takes() {
    let takes_only_a: [fn() -> Box<dyn Balancer>; 2] = [|| Box::new(Only(A)), || Box::new(Strict)];
    for (balancer, all) in takes_only_a.into_iter().zip([&[A, B][..], &[A]]) {
        let probe = Probe::default();
        probe.fail_calls(A);
        let endpointer =
            DefaultEndpointer::new(FixedInstancer::new("s", instances(all)), probe.factory());
        until_ready(&endpointer, all).await;
        let client = Retry::new(3, Duration::from_secs(5))
            .layer(Balanced::new(endpointer.clone(), balancer()));
        let error = client.clone().ask("").await.unwrap_err();
        assert_eq!(error.final_error().to_string(), format!("{A} fails"));
        assert_eq!(probe.calls(A), 3);

        let healed = tokio::spawn(client.ask(""));
        tokio::task::yield_now().await;
        probe.heal_calls(A);
        assert_eq!(healed.await.unwrap().unwrap(), A);
    }
}
