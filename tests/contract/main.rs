//! The contract of the stores, as `src/storage/mod.rs` words it, held by every implementation: the maps, SQLite and
//! a real MariaDB. What concerns databases alone (opening, outages, several processes, places in lists) has files
//! of its own.

mod accounts;
mod changes;
mod contacts;
mod conversations;
mod costs;
mod faults;
mod fixture;
mod list;
mod list_cost;
mod listing;
mod locks;
#[allow(dead_code, reason = "shared with the tests of a node, which use the rest")]
#[path = "../support/mariadb.rs"]
mod mariadb_server;
mod marks;
mod messages;
#[allow(dead_code, reason = "shared with the tests of a node, which use the rest")]
#[path = "../support/mysql_proxy.rs"]
mod mysql_proxy;
mod opening;
mod outage;
mod people;
mod retention;
mod rooms;
mod search;
mod sharing;
mod speed;
mod starts;
#[allow(dead_code, reason = "shared with the tests of a node, which use the rest")]
#[path = "../support/tiny_disk.rs"]
mod tiny_disk;

/// Stamps every case on one implementation.
macro_rules! suite {
    ($store:ident: $($topic:ident { $($case:ident)+ })+) => {
        mod $store {
            $(mod $topic {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture = crate::fixture::$store().await;
                    crate::$topic::$case(&fixture.stores).await;
                })+
            })+
        }
    };
}

/// Lists the cases.
macro_rules! contract {
    ($($store:ident)+) => {
        $(suite! { $store:
            accounts {
                names_are_unique_regardless_of_case
                a_user_is_found_by_id_and_by_name
                a_search_finds_beginnings_of_names_and_parts_of_display_names
                a_profile_changes_where_told_to
                passwords_and_sign_in_can_be_changed
                a_device_is_found_by_its_token_until_it_is_deleted
                the_owners_of_many_tokens_are_found_at_once
                what_a_line_device_was_given_is_replaced_by_conversation
            }
            changes {
                messages_are_what_their_log_has_made_of_them
                what_is_not_stored_changes_nothing
                of_many_who_react_the_first_are_named_and_all_are_counted
                the_list_shows_messages_and_counts_them_only
            }
            contacts {
                both_sides_are_written_and_removed_together
                contacts_are_paged_by_id
                of_requests_that_cross_the_later_one_makes_friends
                crossing_requests_all_end
            }
            conversations {
                a_group_begins_with_its_owner_and_members
                a_large_group_is_created_whole
                a_direct_conversation_is_created_once
                concurrent_calls_get_the_same_direct_conversation
                members_leave_and_come_back
                some_members_and_the_roster_are_the_members
                members_stay_as_they_are_when_added_again
                cursors_never_move_back
                many_cursors_move_at_once
                time_of_change_never_moves_back
                a_group_is_created_once_under_a_client_id
            }
            starts {
                many_direct_conversations_are_made_once
                nodes_that_make_the_same_conversations_agree
                rooms_open_as_when_they_are_read_one_by_one
                the_newest_messages_are_those_of_each
                acquaintances_of_many_are_those_of_each
            }
            list {
                the_newest_activity_comes_first
                a_row_tells_all_of_a_conversation
                unread_counts_others_messages_behind_the_cursor
                what_is_taken_back_or_hidden_is_not_unread
                what_was_left_shows_only_to_those_who_ask_for_changes
                pages_follow_each_other_without_gap
                what_was_before_joining_is_not_shown
                of_what_the_reader_knows_only_the_places_are_told
            }
            marks {
                what_a_user_hides_is_hidden_from_that_user
                a_pin_is_put_once_and_goes_with_its_message
                what_is_scheduled_comes_due_in_the_order_of_its_time
                a_message_expires_until_it_is_emptied
                what_is_being_sent_cannot_be_taken_back
            }
            messages {
                every_field_comes_back
                any_text_comes_back
                an_append_is_all_or_none
                a_client_id_is_taken_once
                client_ids_differ_by_every_byte
                messages_without_client_id_dont_collide
                one_of_many_takes_a_seq
                a_batch_of_any_size_is_stored
                large_batches_of_large_texts_are_stored
                what_is_stored_is_found_by_its_keys
                history_is_paged_both_ways
                logs_of_conversations_are_apart
                tails_of_many_logs_come_together_in_the_order_asked_for
                tails_of_logs_that_have_lost_their_beginnings_are_whole
            }
            people {
                privacy_is_replaced_and_absent_where_nothing_was_said
                what_is_said_of_presence_is_kept_and_times_never_move_back
                one_who_is_invisible_is_not_seen
                many_are_seen_at_once
                a_block_ends_what_contact_there_was
                blocks_are_paged_by_id
                a_direct_conversation_is_found_from_either_side
                preferences_change_where_told_to_and_are_each_members_own
                a_draft_is_kept_beside_preferences
                a_changed_preference_is_listed_as_changed_without_moving_the_row
                erased_messages_are_emptied_and_keep_their_place
                an_erased_user_leaves_a_name_and_nothing_else
                what_is_to_be_done_of_an_erased_account_is_kept_until_it_is
            }
            retention {
                what_is_removed_takes_along_all_that_hangs_on_it
                a_log_keeps_the_place_of_its_newest_message
                what_is_indexed_late_does_not_come_back
                logs_are_listed_by_conversation_and_by_rule
            }
            rooms {
                settings_change_where_told_to
                the_past_is_opened_to_those_who_are_there
                roles_are_set_and_an_owner_leaves_to_an_heir
                one_who_was_silenced_is_so_when_back
                a_condition_that_does_not_hold_leaves_all_as_it_was
                requests_and_bans_are_kept_once_and_paged
                the_last_use_of_a_code_is_given_once
                codes_expire_and_open_no_other_room
                of_two_admins_who_remove_each_other_one_stays
                nobody_joins_what_is_dissolved
                members_are_paged_by_id
                settings_that_were_changed_meanwhile_are_noticed
                how_many_are_in_it_is_what_members_say
                what_a_room_has_to_say_is_kept_until_its_log_has_it
            }
            search {
                messages_are_found_by_all_terms_of_a_query
                what_is_found_is_filtered_and_paged_newest_first
                only_members_find_and_only_from_their_first_seq_on
                steps_of_two_who_index_the_same_exclude_each_other
                what_is_indexed_anew_or_forgotten_leaves_nothing_behind
                a_place_in_the_log_is_found_by_its_time
            }
        })+
    };
}

contract! { memory sqlite mariadb }
