//! What a URL says of the instances to be seen: `only`, `prefer`, `subset`.

use fleetward_balancers::Subset;
use fleetward_core::discovery::Filter;
use fleetward_core::registry::Options;
use fleetward_core::{Error, RegistryHandle};

/// The views of a URL. They are taken in this order: what must hold, what is preferred of that, and
/// a subset of what is left.
#[derive(Debug)]
pub(crate) struct Views {
    only: Option<Filter>,
    prefer: Option<Filter>,
    subset: Option<Subset>,
}

impl Views {
    pub(crate) fn take(options: &mut Options) -> Result<Self, Error> {
        let only = filter(options, "only")?;
        let prefer = filter(options, "prefer")?.map(Filter::or_all);
        Ok(Self { only, prefer, subset: subset(options)? })
    }

    pub(crate) fn apply(self, mut handle: RegistryHandle) -> RegistryHandle {
        for filter in self.only.into_iter().chain(self.prefer) {
            handle = handle.with_view(filter);
        }
        match self.subset {
            Some(subset) => handle.with_view(subset),
            None => handle,
        }
    }
}

fn filter(options: &mut Options, option: &'static str) -> Result<Option<Filter>, Error> {
    let mut all: Option<Filter> = None;
    for text in options.take_all(option) {
        let one = Filter::parse(&text).map_err(|error| error.with_context("option", option))?;
        all = Some(all.unwrap_or_default().and(one));
    }
    Ok(all)
}

fn subset(options: &mut Options) -> Result<Option<Subset>, Error> {
    let size: Option<usize> = options.take_parsed("subset")?;
    let index: Option<u64> = options.take_parsed("client_index")?;
    let id = options.take_text("client_id")?;
    let refused = |message: &'static str, option: &str| {
        Err(Error::invalid_input(message).with_context("option", option))
    };
    match (size, index, id) {
        (Some(0), ..) => refused("a subset has at least one instance", "subset"),
        (_, Some(_), Some(_)) => {
            refused("a client has an index or an id, not both", "client_index, client_id")
        }
        (None, None, None) => Ok(None),
        (None, Some(_), None) => refused("only a subset needs to know the client", "client_index"),
        (None, None, Some(_)) => refused("only a subset needs to know the client", "client_id"),
        (Some(size), None, None) => Ok(Some(Subset::of(size))),
        (Some(size), Some(index), None) => Ok(Some(Subset::of(size).with_client_index(index))),
        (Some(size), None, Some(id)) => Ok(Some(Subset::of(size).with_client_id(&id))),
    }
}
