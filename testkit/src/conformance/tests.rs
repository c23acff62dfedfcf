//! The macro that makes a test of each case.

use super::{Case, Form, Subject, run};

/// Makes a test of each case of the [suite](crate::conformance), in a module a form of the backend
/// and in it a module a group, so that the test runner shows them one by one:
///
/// ```text
/// concrete::discovery::add … erased::faults::watch_killed
/// ```
///
/// It is given a function, `async fn() -> Option<impl Subject>`, that makes a new
/// [`Subject`](crate::conformance::Subject) for each test, or `None` after saying why there is
/// none. Call it in a module of its own, in which `concrete` and `erased` are free:
///
/// ```
/// use fleetward_memory::MemoryRegistry;
/// use fleetward_testkit::conformance::{Capabilities, Subject};
///
/// struct Memory(MemoryRegistry);
///
/// impl Subject for Memory {
///     type Backend = MemoryRegistry;
///
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::new()
///     }
///
///     async fn open(&self) -> MemoryRegistry {
///         self.0.clone()
///     }
/// }
///
/// async fn memory() -> Option<Memory> {
///     Some(Memory(MemoryRegistry::new()))
/// }
///
/// fleetward_testkit::conformance_tests!(memory);
/// # fn main() {}
/// ```
///
/// `conformance_tests!(memory, concrete)` leaves the erased form out.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:ident) => {
        $crate::__conformance_cases!($crate::__conformance_tests, { $subject[both] });
    };
    ($subject:ident, concrete) => {
        $crate::__conformance_cases!($crate::__conformance_tests, { $subject[concrete] });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (
        { $subject:ident [both] }
        both { $($groups:tt)* }
        concrete { $($only:tt)* }
    ) => {
        $crate::__conformance_form!(concrete Concrete $subject [$($groups)* $($only)*]);
        $crate::__conformance_form!(erased Erased $subject [$($groups)*]);
    };
    (
        { $subject:ident [concrete] }
        both { $($groups:tt)* }
        concrete { $($only:tt)* }
    ) => {
        $crate::__conformance_form!(concrete Concrete $subject [$($groups)* $($only)*]);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_form {
    (
        $module:ident $form:ident $subject:ident
        [$($group:ident { $($name:ident: $needs:tt,)* })*]
    ) => {
        mod $module {
            use super::$subject;
            $(mod $group {
                use super::$subject;
                $(#[test]
                fn $name() {
                    $crate::conformance::__test(
                        stringify!($group),
                        stringify!($name),
                        $crate::conformance::Form::$form,
                        $subject,
                    );
                })*
            })*
        }
    };
}

/// The body of a test that [`conformance_tests!`](crate::conformance_tests) makes. The runtime is
/// made here, so that the crate with the test need not name tokio.
#[doc(hidden)]
pub fn __test<S: Subject>(
    group: &str,
    name: &str,
    form: Form,
    subject: impl AsyncFnOnce() -> Option<S>,
) {
    let case = Case::named(&format!("{group}::{name}"));
    let case = case.expect("the macro and the table are made from one list");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(run(case, form, subject));
}
