//! Handles: what a node is known by to later nodes, with the type they will see.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::graph::{Ref, ValueOf, Values};
use crate::error::{Failure, StepError};

/// The output of a node, as later nodes of the same saga refer to it.
///
/// Copy; branded with its saga's lifetime, so that a handle of another saga does not compile.
pub struct Handle<'s, T> {
    pub(crate) node: Ref,
    /// Whether the stored output is the handle's value as it is.
    pub(crate) plain: bool,
    pub(crate) decode: fn(ValueOf<'_>) -> Result<T, StepError>,
    pub(crate) brand: Brand<'s, T>,
}

/// Covariant in the saga's lifetime: outer handles may be used in a fan-out's body.
type Brand<'s, T> = PhantomData<(&'s (), fn() -> T)>;

impl<T> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Handle<'_, T> {}

impl<T> std::fmt::Debug for Handle<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<'s, T> Handle<'s, T> {
    pub(crate) fn new<M: Mode<D, Out = T>, D: DeserializeOwned>(node: Ref) -> Self {
        Self { node, plain: M::PLAIN, decode: M::decode, brand: PhantomData }
    }
}

/// How a node's options change what dependents see.
#[doc(hidden)]
pub trait Mode<T> {
    /// What dependents see.
    type Out;
    /// Whether the stored output is that value as it is.
    const PLAIN: bool;
    /// Reads it.
    fn decode(value: ValueOf<'_>) -> Result<Self::Out, StepError>;
}

/// The node always runs.
#[doc(hidden)]
#[derive(Debug)]
pub struct Always;
/// The node runs under a condition: dependents see `Option`.
#[doc(hidden)]
#[derive(Debug)]
pub struct When<M>(PhantomData<M>);
/// The node may fail: dependents see `Result`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Tolerated<M>(PhantomData<M>);

impl<T: DeserializeOwned> Mode<T> for Always {
    type Out = T;
    const PLAIN: bool = true;

    fn decode(value: ValueOf<'_>) -> Result<T, StepError> {
        match value {
            ValueOf::Output(payload) => payload.decode().map_err(|error| {
                StepError::permanent("read the output of a dependency")
                    .with_code("output_shape")
                    .with_hint("the step's Output type changed: give its kind a new REVISION")
                    .with_source(error)
            }),
            ValueOf::Skipped | ValueOf::Failed(_) | ValueOf::Open => {
                Err(StepError::permanent("read the output of a dependency").with_code("no_output"))
            }
        }
    }
}

impl<T, M: Mode<T>> Mode<T> for When<M> {
    type Out = Option<M::Out>;
    const PLAIN: bool = false;

    fn decode(value: ValueOf<'_>) -> Result<Self::Out, StepError> {
        match value {
            ValueOf::Skipped => Ok(None),
            other => M::decode(other).map(Some),
        }
    }
}

impl<T, M: Mode<T>> Mode<T> for Tolerated<M> {
    type Out = Result<M::Out, Failure>;
    const PLAIN: bool = false;

    fn decode(value: ValueOf<'_>) -> Result<Self::Out, StepError> {
        match value {
            ValueOf::Failed(failure) => Ok(Err(failure.clone())),
            other => M::decode(other).map(Ok),
        }
    }
}

/// What a node may depend on: `()`, a handle, a `Vec` or array of these, or a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a dependency",
    label = "expected `()`, a handle, a `Vec` of handles, or a tuple of up to eight of these",
    note = "a node becomes a handle by its last call, `.input(deps, |input, values| ..)`"
)]
pub trait Deps<'s> {
    /// What the wiring closure receives.
    type Values;
    /// Reads the values; holds no borrow of the saga.
    #[doc(hidden)]
    type Reader: Reader<Values = Self::Values> + Send + Sync + 'static;
    /// Splits into a reader and the edges.
    #[doc(hidden)]
    fn reader(self, edges: &mut Vec<Ref>) -> Self::Reader;
}

/// Reads the values of dependencies.
#[doc(hidden)]
pub trait Reader {
    /// What is read.
    type Values;
    /// Reads.
    fn read(&self, values: &dyn Values) -> Result<Self::Values, StepError>;
}

/// Reads one handle.
#[doc(hidden)]
pub struct One<T> {
    node: Ref,
    decode: fn(ValueOf<'_>) -> Result<T, StepError>,
}

impl<T> std::fmt::Debug for One<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("One").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<T> Reader for One<T> {
    type Values = T;

    fn read(&self, values: &dyn Values) -> Result<T, StepError> {
        (self.decode)(values.value(self.node))
    }
}

impl<'s, T: 'static> Deps<'s> for Handle<'s, T> {
    type Values = T;
    type Reader = One<T>;

    fn reader(self, edges: &mut Vec<Ref>) -> One<T> {
        edges.push(self.node);
        One { node: self.node, decode: self.decode }
    }
}

impl Deps<'_> for () {
    type Values = ();
    type Reader = ();

    fn reader(self, _: &mut Vec<Ref>) {}
}

impl Reader for () {
    type Values = ();

    fn read(&self, _: &dyn Values) -> Result<(), StepError> {
        Ok(())
    }
}

impl<R: Reader> Reader for Vec<R> {
    type Values = Vec<R::Values>;

    fn read(&self, values: &dyn Values) -> Result<Self::Values, StepError> {
        self.iter().map(|reader| reader.read(values)).collect()
    }
}

impl<'s, D: Deps<'s>> Deps<'s> for Vec<D> {
    type Values = Vec<D::Values>;
    type Reader = Vec<D::Reader>;

    fn reader(self, edges: &mut Vec<Ref>) -> Self::Reader {
        self.into_iter().map(|dep| dep.reader(edges)).collect()
    }
}

impl<'s, D: Deps<'s>, const N: usize> Deps<'s> for [D; N] {
    type Values = Vec<D::Values>;
    type Reader = Vec<D::Reader>;

    fn reader(self, edges: &mut Vec<Ref>) -> Self::Reader {
        self.into_iter().map(|dep| dep.reader(edges)).collect()
    }
}

macro_rules! tuple_deps {
    ($($name:ident $value:ident),+) => {
        impl<'s, $($name: Deps<'s>),+> Deps<'s> for ($($name,)+) {
            type Values = ($($name::Values,)+);
            type Reader = ($($name::Reader,)+);

            fn reader(self, edges: &mut Vec<Ref>) -> Self::Reader {
                let ($($value,)+) = self;
                ($($value.reader(edges),)+)
            }
        }

        impl<$($name: Reader),+> Reader for ($($name,)+) {
            type Values = ($($name::Values,)+);

            fn read(&self, values: &dyn Values) -> Result<Self::Values, StepError> {
                let ($($value,)+) = self;
                Ok(($($value.read(values)?,)+))
            }
        }
    };
}

tuple_deps!(A a);
tuple_deps!(A a, B b);
tuple_deps!(A a, B b, C c);
tuple_deps!(A a, B b, C c, D d);
tuple_deps!(A a, B b, C c, D d, E e);
tuple_deps!(A a, B b, C c, D d, E e, F f);
tuple_deps!(A a, B b, C c, D d, E e, F f, G g);
tuple_deps!(A a, B b, C c, D d, E e, F f, G g, H h);
