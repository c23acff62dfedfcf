//! What is left of a call when its response has begun: it ends by the deadline, and counts for or
//! against the budget of further attempts by how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use fleetward_core::InstanceId;
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::head::Head;
use super::plan::Plan;
use crate::deadline::Deadline;

/// Ends the response's body with DEADLINE_EXCEEDED when the deadline passes, and tells the budget how
/// the call went.
pub(crate) struct Tail {
    deadline: Option<Deadline>,
    plan: Arc<Plan>,
    /// Whether the budget has yet to hear of a success.
    counts: bool,
    /// Made when the body keeps the caller waiting: a unary response is mostly there at once.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Tail {
    pub(super) fn new(head: Head, deadline: Option<Deadline>, plan: Arc<Plan>) -> Self {
        let mut tail = Self { deadline, plan, counts: true, sleep: None };
        match head {
            Head::Begun => {}
            Head::Succeeded => tail.ended(Some(Code::Ok)),
            // It has been counted already, attempt by attempt.
            Head::Failed(_) | Head::Foreign(_) => tail.counts = false,
        }
        tail
    }

    /// The trailers, if there were any, had this code.
    pub(crate) fn ended(&mut self, code: Option<Code>) {
        let counts = std::mem::take(&mut self.counts);
        if let Some(budget) = &self.plan.budget
            && counts
            && code == Some(Code::Ok)
        {
            budget.succeeded();
        }
    }

    /// The deadline, if it has passed.
    pub(crate) fn late(&self) -> Option<Deadline> {
        self.deadline.filter(|deadline| deadline.left().is_zero())
    }

    /// Waits for the deadline.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Option<Deadline> {
        let deadline = self.deadline?;
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.at())));
        sleep.as_mut().poll(cx).is_ready().then_some(deadline)
    }

    pub(crate) fn exceeded(&self, deadline: Deadline, instance: Option<&InstanceId>) -> Status {
        let service = &self.plan.service;
        match instance {
            Some(instance) => {
                let why = format!("instance {instance} had not finished its response");
                deadline.exceeded(service, why)
            }
            None => deadline.exceeded(service, "the response had not ended"),
        }
    }
}
