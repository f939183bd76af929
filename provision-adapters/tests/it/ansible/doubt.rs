//! Reports that are hard to read, and machines that could be mixed up.

use provision_adapters::tools::ansible::{
    Ansible, AnsibleConfig, Machine, PlaybookInput, RunPlaybook,
};
use provision_core::{
    Effect, LedgerQuery, MemoryStore, SecretRef, Step, Verdict,
    executor::{Executor, HostDriven},
};

use super::{Alone, SAGA, ansible, engine, input, playbook, report, saga, stub};

// covers: R2-13, S9
#[tokio::test]
async fn a_report_is_found_between_what_else_is_said_and_too_much_of_it_parks() {
    let stub = stub();
    let alone = Alone::new(stub.folder());
    let machine = alone.met().await;
    let well = report("agent-7", r#""ok":3,"changed":2"#);
    let around = format!("{{a warning}}\n{{\"msg\":1}}\n{well}\n[WARNING]: {{ more }}\n");
    stub.write("report", &around);
    let done = alone.run(input(machine.clone())).await.unwrap();
    assert_eq!(done.machines["agent-7"].changed, 2);

    stub.write("act", "head -c 20000000 /dev/zero; exit 0");
    let error = alone.run(input(machine)).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("output_too_large", &Verdict::Operator));
    assert_eq!(error.effect(), Effect::Unknown);
}

// covers: R2-42
#[tokio::test]
async fn machines_of_another_account_are_not_in_the_inventory() {
    let stub = stub();
    let elsewhere = AnsibleConfig::new(stub.path("work"), SecretRef::named("SSH_KEY"))
        .with_program(stub.path("ansible-playbook"))
        .with_ssh(stub.path("ssh"), stub.path("ssh-keyscan"))
        .with_account("another-network");
    let engine = engine(MemoryStore::new(), saga(stub.folder())).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(Machine::from_row(&rows[0]).is_some());
    let alone = Alone::new(stub.folder());
    for (ansible, code) in
        [(ansible(stub.folder()), None), (Ansible::new(elsewhere), Some("no_machine"))]
    {
        let rows = rows.clone();
        let play = RunPlaybook::new(&ansible, playbook(stub.folder()))
            .with_ledger(move || Box::pin(std::future::ready(Ok(rows.clone()))));
        let ended = play.run(&alone.cx(), PlaybookInput::on_ledger()).await;
        assert_eq!(ended.err().map(|error| error.code().to_owned()), code.map(str::to_owned));
    }
}
