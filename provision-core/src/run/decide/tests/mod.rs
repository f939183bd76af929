//! The pure machine under random graphs, random ends and random interruptions.
//!
//! It differs from the simulation in that nothing runs here: the test plays the driver, chooses how
//! every attempt ends, and holds the machine against a model of its own.

mod fixture;
mod graphs;
mod model;

mod table;
mod walk;
