//! The faults that the maps can be told to have.

use rookery::storage::memory::{Fault, MemoryStores};
use rookery::storage::{ClientKey, StoreError};

use crate::fixture::message;

#[tokio::test]
async fn a_fault_meets_so_many_calls_as_were_named() {
    let memory = MemoryStores::default();
    let stores = memory.stores();
    memory.fail_next(2, Fault::Unavailable);
    let sent = [message(1, 1, 1, "a")];
    assert!(matches!(stores.messages.append(&sent).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(stores.messages.last_seq(1).await, Err(StoreError::Unavailable(_))));
    assert_eq!(stores.messages.last_seq(1).await, Ok(0));
    assert_eq!(stores.messages.append(&sent).await, Ok(()));
}

#[tokio::test]
async fn an_unsettled_write_is_stored_or_not_as_was_named() {
    let memory = MemoryStores::default();
    let stores = memory.stores();
    for (seq, fault, is_stored) in [(1, Fault::UnsettledLost, false), (1, Fault::UnsettledStored, true)] {
        memory.fail_next(1, fault);
        let key = ClientKey { conversation_id: 1, sender_id: 1, client_id: "a".to_owned() };
        let before = stores.messages.stored(std::slice::from_ref(&key)).await;
        assert_eq!(before, Ok(Vec::new()), "reads pass");
        let outcome = stores.messages.append(&[message(1, seq, 1, "a")]).await;
        assert!(matches!(outcome, Err(StoreError::Unsettled(_))));
        assert_eq!(stores.messages.stored(&[key]).await.expect("reads pass").len(), usize::from(is_stored));
    }
}
