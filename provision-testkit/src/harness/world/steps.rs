//! Plain steps of the cloud: an entry that is put and removed, a token that is shown once, a password
//! that is drawn here, a look at whether a kept value is the one the cloud knows, and a message.

use provision_core::{
    Compensator, Effect, Secret, SecretRef, Step, StepContext, StepError, Undo, Verdict,
};
use serde::{Deserialize, Serialize};

use super::World;

/// Puts an entry of this name; putting it again changes nothing.
#[derive(Debug, Clone)]
pub struct Entry(pub World);

impl Step for Entry {
    const KIND: &'static str = "world.entry";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, name: String) -> Result<String, StepError> {
        let entry = name.clone();
        self.0
            .change(cx, "put", &name, move |state| {
                if !state.entries.contains(&entry) {
                    state.entries.push(entry);
                }
                Ok(())
            })
            .await?;
        Ok(name)
    }
}

/// Removes an entry; one that is gone already is removed.
#[derive(Debug, Clone)]
pub struct RemoveEntry(pub World);

impl Compensator<Entry> for RemoveEntry {
    async fn compensate(
        &self,
        cx: &StepContext,
        name: String,
        _: Undo<String>,
    ) -> Result<(), StepError> {
        let entry = name.clone();
        self.0
            .change(cx, "remove", &name, move |state| {
                state.entries.retain(|kept| *kept != entry);
                Ok(())
            })
            .await
    }
}

/// Tells the cloud something, such as from a hook; told again, it is the same message.
#[derive(Debug, Clone)]
pub struct Tell(pub World);

impl Step for Tell {
    const KIND: &'static str = "world.tell";
    type Input = String;
    type Output = ();

    async fn run(&self, cx: &StepContext, message: String) -> Result<(), StepError> {
        let told = message.clone();
        self.0
            .change(cx, "tell", &message, move |state| {
                state.told.insert(told);
                Ok(())
            })
            .await
    }
}

/// Issues a token that the cloud shows once, and keeps it sealed; issuing again replaces it.
#[derive(Debug, Clone)]
pub struct Token(pub World);

impl Step for Token {
    const KIND: &'static str = "world.token";
    type Input = String;
    type Output = SecretRef;

    async fn run(&self, cx: &StepContext, name: String) -> Result<SecretRef, StepError> {
        // Another one on each attempt, as a real issuer would draw.
        let value = format!("tok/{}+{}~{:0>8}=", name, cx.idempotency_key(), cx.attempt());
        let issued = value.clone();
        self.0
            .change(cx, "issue", &name, |state| {
                state.issue(&name, &issued);
                Ok(())
            })
            .await?;
        Ok(cx.keep("token", Secret::new(value)))
    }
}

/// Revokes a token.
#[derive(Debug, Clone)]
pub struct RevokeToken(pub World);

impl Compensator<Token> for RevokeToken {
    async fn compensate(
        &self,
        cx: &StepContext,
        name: String,
        _: Undo<SecretRef>,
    ) -> Result<(), StepError> {
        self.0
            .change(cx, "revoke", &name, |state| {
                state.tokens.remove(&name);
                Ok(())
            })
            .await
    }
}

/// Draws a password once, seals it, and sets it at the cloud; set again, it is the same one.
#[derive(Debug, Clone)]
pub struct Password(pub World);

impl Step for Password {
    const KIND: &'static str = "world.password";
    type Input = String;
    type Output = SecretRef;

    async fn run(&self, cx: &StepContext, name: String) -> Result<SecretRef, StepError> {
        // Another one on each attempt: the first that was sealed wins.
        let draw = || Secret::new(format!("pw/{}+{name}~{:0>8}=", cx.run_id(), cx.attempt()));
        let sealed = cx.seal("password", draw).await?;
        let value = cx.reveal(&sealed).await?;
        self.0
            .change(cx, "set", &name, |state| {
                state.take(&name, cx.idempotency_key(), value.expose());
                state.tokens.insert(name.clone(), value.expose().to_owned());
                Ok(())
            })
            .await?;
        Ok(sealed)
    }
}

/// Takes a password away.
#[derive(Debug, Clone)]
pub struct UnsetPassword(pub World);

impl Compensator<Password> for UnsetPassword {
    async fn compensate(
        &self,
        cx: &StepContext,
        name: String,
        _: Undo<SecretRef>,
    ) -> Result<(), StepError> {
        self.0
            .change(cx, "unset", &name, |state| {
                state.tokens.remove(&name);
                Ok(())
            })
            .await
    }
}

/// What [`Compare`] is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the token.
    pub name: String,
    /// Where it is kept.
    pub token: SecretRef,
}

/// Opens a kept token and looks whether it is the one the cloud knows.
#[derive(Debug, Clone)]
pub struct Compare(pub World);

impl Step for Compare {
    const KIND: &'static str = "world.compare";
    type Input = Comparison;
    type Output = bool;

    async fn run(&self, cx: &StepContext, given: Comparison) -> Result<bool, StepError> {
        let token = cx.reveal(&given.token).await?;
        let same = self.0.look(cx, "compare", |state| {
            state.tokens.get(&given.name).map(String::as_str) == Some(token.expose())
        });
        if same.await? {
            return Ok(true);
        }
        Err(StepError::new(Effect::None, Verdict::Permanent, "compare a token")
            .with_code("another_token"))
    }
}
