//! The list of all cases, once: the table, the dispatch and the tests are made from it.

use super::{Bed, Capabilities, Capability, Form, Subject};

/// One case of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Case {
    /// The module that it stands in.
    pub group: &'static str,
    /// The function.
    pub name: &'static str,
    /// What the backend needs for it.
    pub needs: &'static [Capability],
    /// Whether it calls the traits of the backend, which only the concrete type has.
    pub concrete_only: bool,
}

impl Case {
    /// The case of that name, as `Display` has it: `discovery::add`.
    pub fn named(name: &str) -> Option<Self> {
        CASES.iter().copied().find(|case| case.to_string() == name)
    }

    /// Why a backend is not tested with this case, if it is not.
    pub fn skipped(&self, capabilities: &Capabilities) -> Option<String> {
        self.needs
            .iter()
            .find_map(|need| Some(format!("{need:?}: {}", capabilities.why_not(*need)?)))
    }

    /// The forms of a backend that it is run on.
    pub fn forms(&self) -> &'static [Form] {
        if self.concrete_only { &[Form::Concrete] } else { &[Form::Concrete, Form::Erased] }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// Calls `$callback` with the context and the list. The groups in `both` run in both forms.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($callback:path, $context:tt) => {
        $callback! { $context
            both {
                discovery {
                    snapshot_at_once: [],
                    an_unknown_service_is_empty: [],
                    add: [],
                    change: [Weights],
                    delete: [],
                    last_one_removed: [],
                    order: [],
                    duplicate: [RawWrites, Duplicates],
                    written_by_hand: [RawWrites],
                    bad_value_skipped: [RawWrites],
                    sibling_names_apart: [],
                    odd_names: [OddNames],
                    a_thousand_instances: [Thousand],
                }
                instances {
                    ipv6: [Ipv6],
                    host_name: [],
                    weights: [Weights],
                    metadata: [Metadata],
                    zone: [Zone],
                    version: [Version],
                    own_id: [Ids],
                    scheme: [Schemes],
                }
                registration {
                    visible_to_a_watcher: [Register],
                    renewed_past_three_ttls: [Register],
                    lost_lease_registered_again: [Register, LoseLease],
                    exactly_one_key: [Register, Keys],
                    deregisters_only_its_own: [Register, Ownership],
                    double_deregister_harmless: [Register],
                    dropped_leaves_nothing: [Register],
                }
                faults {
                    server_stopped_and_started: [Register, Restart],
                    connection_cut: [Proxy],
                    connection_reset: [Proxy],
                    connection_half_open: [Proxy],
                    registered_again_after_an_outage: [Register, Proxy],
                    watch_killed: [KillWatches],
                    subscriber_that_never_reads: [],
                    registration_dropped_at_every_await: [Register],
                }
            }
            concrete {
                contract {
                    list_then_watch_without_a_gap: [],
                    renewal_confirms: [Register],
                    lost_lease_is_told: [Register, LoseLease],
                    loss_is_told_without_asking: [Register, LoseLease, TellsLoss],
                    successor_is_told: [Register, Ownership],
                    lease_ends_by_itself: [Register],
                    deregister_of_what_is_gone: [Register],
                    reads_dropped_at_every_await: [],
                    writes_dropped_at_every_await: [Register],
                }
                told {
                    a_key_is_listed_once: [],
                    each_change_is_told_once: [],
                    a_cursor_never_goes_back: [],
                }
            }
        }
    };
}

macro_rules! table {
    (
        {}
        both { $($group:ident { $($name:ident: [$($need:ident),*],)* })* }
        concrete { $($only_group:ident { $($only:ident: [$($only_need:ident),*],)* })* }
    ) => {
        /// All cases.
        pub const CASES: &[Case] = &[
            $($(Case {
                group: stringify!($group),
                name: stringify!($name),
                needs: &[$(Capability::$need),*],
                concrete_only: false,
            },)*)*
            $($(Case {
                group: stringify!($only_group),
                name: stringify!($only),
                needs: &[$(Capability::$only_need),*],
                concrete_only: true,
            },)*)*
        ];

        pub(super) async fn dispatch<S: Subject>(case: Case, bed: &Bed<S>) {
            match (case.group, case.name) {
                $($((stringify!($group), stringify!($name)) => {
                    Box::pin(super::$group::$name(bed)).await;
                })*)*
                $($((stringify!($only_group), stringify!($only)) => {
                    Box::pin(super::$only_group::$only(bed)).await;
                })*)*
                _ => unreachable!("{case} is not in the list"),
            }
        }
    };
}

crate::__conformance_cases!(table, {});
