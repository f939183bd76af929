//! What sagas are made of at Resend: the mail, and the steps that send it.

mod mail;
mod send;

pub use mail::Mail;
pub use send::{MailSent, NotifyByMail, SENT, SendMail};
