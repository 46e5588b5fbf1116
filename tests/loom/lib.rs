//! The breaker and what it rests on, included from where they are, for the model checker to try every order.

#[path = "../../src/policy"]
pub mod policy {
    pub mod breaker;
    pub mod window;
}
