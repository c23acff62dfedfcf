//! What a call hears that finds no endpoint: where was looked, what stands there, why none is ready.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_core::discovery::{
    Filter, InstancerExt, Listing, Publisher, Reflector, ReflectorConfig, Source,
};
use fleetward_core::endpoints::{Outcome, Readiness};
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{
    DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance, Instancer, ServiceName,
};
use tokio::time::sleep;

use crate::fake_source::{FakeSource, reflect, unreadable};
use crate::support::{Probe, instance, settle, until_ready};

/// What a call hears once the endpointer has made up its mind.
async fn heard(instancer: impl Instancer) -> String {
    let endpointer = DefaultEndpointer::new(instancer, Probe::default().factory());
    sleep(Duration::from_secs(1)).await;
    endpointer.endpoints().load().no_endpoints("greeter").to_string()
}

#[tokio::test(start_paused = true)]
async fn where_nothing_stands_it_says_where_it_looks() {
    let error = heard(reflect(&FakeSource::of(&[]))).await;
    assert_eq!(
        error,
        "no endpoints: no instance is registered (service=greeter, registry=a fake, keys below greeter/, known=0, ready=0)"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_counted_and_the_newest_reason_is_given() {
    let source = FakeSource::of(&[]);
    source.will_list(vec![unreadable("greeter/a", "it is no JSON")]);
    let reflector = reflect(&source);
    let error = heard(reflector.clone()).await;
    let message = "no instance is registered that can be read; one entry cannot (";
    assert!(error.contains(message) && error.contains("unreadable=1"), "{error}");
    assert!(error.contains("it is no JSON (key=greeter/a)"), "{error}");

    source.put(unreadable("greeter/b", "it is too long"));
    settle().await;
    let error = heard(reflector.clone()).await;
    assert!(error.contains("2 entries cannot") && error.contains("too long (key=greeter/b)"));
    // The newest is gone; the other one still cannot be read.
    source.delete("greeter/b");
    settle().await;
    let error = heard(reflector).await;
    assert!(error.contains("one entry cannot") && error.contains("no JSON (key=greeter/a)"));
}

#[tokio::test(start_paused = true)]
async fn what_filters_leave_out_is_counted() {
    let list = Publisher::new("greeter");
    list.publish([instance("10.0.0.1:80")]);
    let view = list.clone().view(Filter::version("v2")).view(Filter::zone("a"));
    let endpointer = DefaultEndpointer::new(view, Probe::default().factory());
    let heard = || endpointer.endpoints().load().no_endpoints("greeter").to_string();
    settle().await;
    assert!(heard().contains("the filters leave out the one instance that is registered"));
    // Though the set that is shown is the same.
    list.publish(["10.0.0.1:80", "10.0.0.2:80"].map(instance));
    settle().await;
    assert!(heard().contains("leave out all 2 instances that are registered"), "{}", heard());
    list.publish([]);
    settle().await;
    assert!(heard().contains("no instance is registered ("), "{}", heard());
}

#[tokio::test(start_paused = true)]
async fn what_a_source_says_of_itself_is_bounded_one_line_and_no_danger() {
    #[derive(Debug)]
    struct Odd(fn() -> String);

    impl Source for Odd {
        type Cursor = ();

        async fn list(&self, _: &ServiceName) -> Result<Listing<()>, Error> {
            Ok(Listing::new(Vec::new(), ()))
        }

        fn watch(
            &self,
            _: &ServiceName,
            (): (),
        ) -> impl futures::Stream<Item = Result<fleetward_core::discovery::Change<()>, Error>> + Send
        {
            futures::stream::pending()
        }

        fn describe(&self, _: &ServiceName) -> String {
            self.0()
        }
    }

    let of = |describe| {
        let service = ServiceName::new("greeter").unwrap();
        Reflector::spawn(Arc::new(Odd(describe)), service, ReflectorConfig::default()).unwrap()
    };
    let error = heard(of(|| "x\n".repeat(1000))).await;
    assert!(error.len() < 600 && !error.contains('\n'), "{error}");
    let error = heard(of(|| panic!("a bug in a source, on purpose"))).await;
    assert!(error.contains("no instance is registered") && !error.contains("registry="), "{error}");
}

/// Keeps the lines by which each instance says how it stands.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(String, Readiness)>>>);

impl Lines {
    fn of(&self, address: &str) -> Readiness {
        let lines = self.0.lock().unwrap();
        lines.iter().find(|(of, _)| of == address).unwrap().1.clone()
    }
}

#[async_trait::async_trait]
impl Factory<()> for Lines {
    async fn make(&self, instance: &Arc<Instance>, readiness: Readiness) -> Result<(), Error> {
        let address = instance.address().to_string();
        match instance.address().port() {
            6 => return Err(Error::invalid_input("such an instance cannot be called")),
            7 => std::future::pending().await,
            _ => {}
        }
        self.0.lock().unwrap().push((address, readiness));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn why_none_is_ready_is_counted_by_reason() {
    let (list, lines) = (Publisher::new("greeter"), Lines::default());
    let outliers =
        OutlierDetection::default().with_consecutive_failures(Some(1)).with_max_ejected(1.0);
    let builder = DefaultEndpointer::builder().panic_threshold(0.0).outlier_detection(outliers);
    let endpointer = builder.build(list.clone(), lines.clone());
    let at = |port: u16| format!("10.0.0.1:{port}");
    list.publish((1..=7).map(|port| instance(&at(port)).with_weight(u32::from(port != 5))));
    settle().await;
    lines.of(&at(1)).set_connecting();
    lines.of(&at(2)).set_failed(Error::new(ErrorKind::Unavailable, "connection refused"));
    let _checking = lines.of(&at(3)).health();
    let health = lines.of(&at(4)).health();
    health.unhealthy(Error::new(ErrorKind::Unavailable, "it answered 503"));
    settle().await;
    assert!(endpointer.endpoints().load().ready().is_empty());
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    let why = "no instance is ready: 1 draining, 2 failed to connect, 2 connecting, 1 not yet found healthy, 1 unhealthy (";
    assert!(error.contains(why), "{error}");
    assert!(error.contains("known=7") && error.contains("cause=unavailable: connection refused"));

    // One of them heals, is used, and is ejected.
    health.healthy();
    until_ready(&endpointer, &[&at(4)]).await;
    for _ in 0..5 {
        endpointer.endpoints().load().ready()[0].begin().finish(Outcome::FAILURE);
    }
    sleep(Duration::from_secs(1)).await;
    let error = endpointer.endpoints().load().no_endpoints("greeter").to_string();
    assert!(error.contains("1 not yet found healthy, 1 ejected ("), "{error}");
}
