//! [`rookery::storage::AccountStore`].

use rookery::storage::{DeviceRecord, ProfileChange, StoreError, Stores, TokenOwner};

use crate::fixture::user;

pub async fn names_are_unique_regardless_of_case(stores: &Stores) {
    let first = stores.accounts.create_user(user("Ada.L", "Ada")).await.expect("the name is free");
    assert!(first.id > 0);
    for name in ["Ada.L", "ada.l", "ADA.L"] {
        assert_eq!(stores.accounts.create_user(user(name, "x")).await, Err(StoreError::Exists), "{name}");
    }
    let umlaut = stores.accounts.create_user(user("Öl", "Öl")).await.expect("the name is free");
    assert_eq!(stores.accounts.create_user(user("öl", "öl")).await, Err(StoreError::Exists));
    let plain = stores.accounts.create_user(user("ol", "ol")).await.expect("an accent makes another name");
    assert!(umlaut.id != plain.id && plain.id != first.id);
}

pub async fn a_user_is_found_by_id_and_by_name(stores: &Stores) {
    let ada = stores.accounts.create_user(user("Ada", "Ada 🦜")).await.expect("the name is free");
    let bob = stores.accounts.create_user(user("Bob", "鲍勃")).await.expect("the name is free");
    assert_eq!(stores.accounts.user(ada.id).await, Ok(Some(ada.clone())));
    assert_eq!(stores.accounts.user(bob.id + 1000).await, Ok(None));
    assert_eq!(stores.accounts.user_by_name("aDA").await, Ok(Some(ada.clone())));
    assert_eq!(stores.accounts.user_by_name("ada ").await, Ok(None));
    assert_eq!(stores.accounts.user_by_name("eve").await, Ok(None));
    let mut found =
        stores.accounts.users(&[bob.id, ada.id, bob.id, bob.id + 1000]).await.expect("they are read");
    found.sort_by_key(|user| user.id);
    assert_eq!(found, [ada, bob]);
    assert_eq!(stores.accounts.users(&[]).await, Ok(Vec::new()));
}

pub async fn a_search_finds_beginnings_of_names_and_parts_of_display_names(stores: &Stores) {
    let mut ids = Vec::new();
    for (name, display_name) in
        [("anna", "Meier"), ("Annika", "Schmidt"), ("joanna", "Jo"), ("bert", "Große ANNA"), ("x_y", "100%")]
    {
        ids.push(stores.accounts.create_user(user(name, display_name)).await.expect("the name is free").id);
    }
    let search = async |query: &str, after_id: u64, limit: u32| -> Vec<u64> {
        let found = stores.accounts.search_users(query, after_id, limit).await.expect("it is searched");
        found.into_iter().map(|user| user.id).collect()
    };
    assert_eq!(search("ANN", 0, 10).await, [ids[0], ids[1], ids[3]]);
    assert_eq!(search("ann", 0, 2).await, [ids[0], ids[1]]);
    assert_eq!(search("ann", ids[1], 2).await, [ids[3]]);
    assert_eq!(search("GROSSE", 0, 9).await, Vec::<u64>::new());
    assert_eq!(search("große", 0, 9).await, [ids[3]]);
    assert_eq!(search("%", 0, 9).await, [ids[4]], "a percent sign is a character");
    assert_eq!(search("x_", 0, 9).await, [ids[4]], "an underscore is a character");
    assert_eq!(search("_", 0, 9).await, Vec::<u64>::new());
}

pub async fn a_profile_changes_where_told_to(stores: &Stores) {
    let ada = stores.accounts.create_user(user("ada", "Ada")).await.expect("the name is free");
    let change = ProfileChange { bio: Some("Zählt. 🧮".to_owned()), ..ProfileChange::default() };
    let changed =
        stores.accounts.change_profile(ada.id, change).await.expect("it is changed").expect("there");
    assert_eq!((changed.display_name.as_str(), changed.bio.as_str()), ("Ada", "Zählt. 🧮"));
    let change = ProfileChange {
        display_name: Some("Countess".to_owned()),
        avatar_file_id: Some(9),
        ..ProfileChange::default()
    };
    let changed = stores.accounts.change_profile(ada.id, change.clone()).await.expect("it is changed");
    assert_eq!(stores.accounts.user(ada.id).await, Ok(changed.clone()));
    let changed = changed.expect("there");
    assert_eq!((changed.avatar_file_id, changed.bio.as_str()), (9, "Zählt. 🧮"));
    assert_eq!(stores.accounts.search_users("COUNT", 0, 5).await.expect("it is searched").len(), 1);
    assert_eq!(
        stores.accounts.change_profile(ada.id, ProfileChange::default()).await.expect("it is read"),
        Some(changed)
    );
    assert_eq!(stores.accounts.change_profile(ada.id + 9, change).await, Ok(None));
}

pub async fn passwords_and_sign_in_can_be_changed(stores: &Stores) {
    let ada = stores.accounts.create_user(user("ada", "Ada")).await.expect("the name is free");
    let set = async |old, new| stores.accounts.set_password(ada.id, old, new).await.expect("it is compared");
    assert!(set(&ada.password_hash, "$argon2id$other").await);
    assert!(!set(&ada.password_hash, "$argon2id$third").await, "another was set meanwhile");
    assert!(set(&ada.password_hash, "$argon2id$other").await, "it is so already");
    stores.accounts.set_disabled(ada.id, true).await.expect("it is set");
    let read = stores.accounts.user(ada.id).await.expect("it is read").expect("there");
    assert_eq!((read.password_hash.as_str(), read.disabled), ("$argon2id$other", true));
    stores.accounts.set_disabled(ada.id, false).await.expect("it is set");
    assert!(!stores.accounts.user(ada.id).await.expect("it is read").expect("there").disabled);
}

pub async fn a_device_is_found_by_its_token_until_it_is_deleted(stores: &Stores) {
    let device = |name: &str| DeviceRecord {
        user_id: 5,
        name: name.to_owned(),
        created_at_ms: 1,
        last_seen_ms: 2,
        expires_at_ms: 3,
        ..DeviceRecord::default()
    };
    let phone = stores.accounts.create_device(device("phone"), "aa").await.expect("the token is new");
    let laptop = stores.accounts.create_device(device("phone"), "AA").await.expect("tokens differ by case");
    assert_eq!(stores.accounts.create_device(device("x"), "aa").await, Err(StoreError::Exists));
    assert_eq!(stores.accounts.device_by_token("aa").await, Ok(Some(phone.clone())));
    assert_eq!(stores.accounts.device_by_token("aA").await, Ok(None));
    stores.accounts.touch_device(phone.id, 98).await.expect("it is noted");
    stores.accounts.touch_devices(&[phone.id, 1 << 40], 99).await.expect("it is noted");
    let touched = DeviceRecord { last_seen_ms: 99, ..phone.clone() };
    assert_eq!(stores.accounts.devices(5).await, Ok(vec![touched, laptop.clone()]));
    assert_eq!(stores.accounts.delete_device(6, phone.id).await, Ok(false), "not theirs");
    assert_eq!(stores.accounts.delete_device(5, phone.id).await, Ok(true));
    assert_eq!(stores.accounts.delete_device(5, phone.id).await, Ok(false));
    assert_eq!(stores.accounts.device_by_token("aa").await, Ok(None));
    assert_eq!(stores.accounts.devices(5).await, Ok(vec![laptop]));
}

pub async fn the_owners_of_many_tokens_are_found_at_once(stores: &Stores) {
    let mut expected = Vec::new();
    for number in 0..200 {
        let name = format!("ada{number}");
        let user = stores.accounts.create_user(user(&name, &name)).await.expect("the name is free");
        let disabled = number % 7 == 0;
        stores.accounts.set_disabled(user.id, disabled).await.expect("it is set");
        let device = DeviceRecord { user_id: user.id, name: "phone".to_owned(), ..DeviceRecord::default() };
        let token_hash = format!("hash{number}");
        let device = stores.accounts.create_device(device, &token_hash).await.expect("the token is new");
        expected.push(TokenOwner { token_hash, device, disabled });
    }
    let mut hashes: Vec<String> = expected.iter().map(|owner| owner.token_hash.clone()).collect();
    hashes.extend(["nobody".to_owned(), "HASH1".to_owned()]);
    let mut found = stores.accounts.owners_of_tokens(&hashes).await.expect("it is read");
    found.sort_by_key(|owner| owner.device.id);
    assert_eq!(found, expected);
    assert_eq!(stores.accounts.owners_of_tokens(&[]).await, Ok(vec![]));
}

pub async fn what_a_line_device_was_given_is_replaced_by_conversation(stores: &Stores) {
    let read = async || {
        let mut given = stores.accounts.line_given(3).await.expect("it is read");
        given.sort_unstable();
        given
    };
    assert_eq!(read().await, Vec::new());
    let first: Vec<(u64, String)> = (1..=150).map(|id| (id, "1-4".to_owned())).collect();
    stores.accounts.set_line_given(3, &first).await.expect("it is stored");
    assert_eq!(read().await, first);
    stores.accounts.set_line_given(3, &[(2, "1-9,12-12".to_owned())]).await.expect("it is stored");
    stores.accounts.set_line_given(4, &[(2, "7-7".to_owned())]).await.expect("it is stored");
    stores.accounts.set_line_given(3, &[]).await.expect("nothing is stored");
    let given = read().await;
    assert_eq!((given.len(), given[0].1.as_str(), given[1].1.as_str()), (150, "1-4", "1-9,12-12"));
}
