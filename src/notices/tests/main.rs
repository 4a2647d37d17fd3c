//! The receiver as a program, between eBay's simulator and an operator.

mod receiving;
mod refusing;
mod world;
