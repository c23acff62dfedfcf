//! What competes: a balancer, and the settings of what it learns from.

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::by_name;
use fleetward_core::endpoints::FeedbackConfig;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{Balancer, Error};

use crate::Prequal;

/// A balancer in a scenario's table.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    title: &'static str,
    kind: Kind,
    penalty: Option<Duration>,
    decay: Option<Duration>,
    detection: bool,
}

/// Makes a balancer for a client in a zone.
pub type Make = fn(zone: Option<&str>) -> Result<Arc<dyn Balancer>, Error>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// As in a URL.
    Named(&'static str),
    /// By a function of the client's zone.
    Made(Make),
    Prequal,
}

/// A balancer for one client.
#[derive(Debug)]
pub struct Made {
    /// The balancer.
    pub balancer: Arc<dyn Balancer>,
    /// The same, if it wants probes.
    pub prober: Option<Arc<Prequal>>,
}

impl Contender {
    /// The balancer of this name, with options as in a URL.
    pub const fn named(spec: &'static str) -> Self {
        Self::new(spec, Kind::Named(spec))
    }

    /// A balancer that a function makes from the client's zone.
    pub const fn made(title: &'static str, make: Make) -> Self {
        Self::new(title, Kind::Made(make))
    }

    /// The experiment with [`Prequal`].
    pub const fn prequal() -> Self {
        Self::new("prequal (experiment)", Kind::Prequal)
    }

    const fn new(title: &'static str, kind: Kind) -> Self {
        Self { title, kind, penalty: None, decay: None, detection: false }
    }

    /// Under another name.
    #[must_use]
    pub const fn titled(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }

    /// With another penalty for failed calls than the default.
    #[must_use]
    pub const fn with_failure_penalty(mut self, penalty: Duration) -> Self {
        self.penalty = Some(penalty);
        self
    }

    /// With another decay of latencies than the default.
    #[must_use]
    pub const fn with_latency_decay(mut self, decay: Duration) -> Self {
        self.decay = Some(decay);
        self
    }

    /// With outlier detection.
    #[must_use]
    pub const fn with_outlier_detection(mut self) -> Self {
        self.detection = true;
        self
    }

    /// What it is called in tables and pictures.
    pub const fn title(&self) -> &'static str {
        self.title
    }

    /// How outliers are found, if they are.
    pub fn outlier_detection(&self) -> Option<OutlierDetection> {
        self.detection.then(OutlierDetection::default)
    }

    /// What its members learn from calls.
    pub fn feedback(&self) -> FeedbackConfig {
        let mut feedback = FeedbackConfig::default();
        if let Some(penalty) = self.penalty {
            feedback = feedback.with_failure_penalty(penalty);
        }
        if let Some(decay) = self.decay {
            feedback = feedback.with_latency_decay(decay);
        }
        feedback
    }

    /// A new one, for a client in this zone.
    ///
    /// # Errors
    /// For a name or an option that is not known.
    pub fn make(&self, zone: Option<&str>) -> Result<Made, Error> {
        Ok(match self.kind {
            Kind::Named(spec) => Made { balancer: by_name(spec)?, prober: None },
            Kind::Made(make) => Made { balancer: make(zone)?, prober: None },
            Kind::Prequal => {
                let prequal = Arc::new(Prequal::new());
                Made { balancer: prequal.clone(), prober: Some(prequal) }
            }
        })
    }
}
