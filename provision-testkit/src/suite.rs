//! The macros that turn the cases of [`crate::conformance`] into named tests.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use provision_core::memory::MemoryStore;
//! use provision_testkit::conformance::{Fixture, Handle};
//!
//! async fn memory() -> Fixture {
//!     let store = MemoryStore::new();
//!     let handles = [
//!         Handle::of(Arc::new(store.clone())),
//!         Handle::of(Arc::new(store.clone())),
//!         Handle::of(Arc::new(store.in_namespace("elsewhere"))),
//!     ];
//!     // The runtime is paused before, so moving its clock moves the store's.
//!     let advance = Arc::new(|by| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
//!         Box::pin(tokio::time::advance(by))
//!     });
//!     Fixture::new(handles, Duration::from_secs(15), advance, ())
//! }
//!
//! mod store {
//!     use super::memory;
//!     provision_testkit::store_suite!(memory);
//! }
//! # fn main() {}
//! ```

/// Expands to one `#[tokio::test]` for each case a [`StateStore`] must pass, in one module for
/// each group.
///
/// The argument is an async function without arguments that answers with a fresh
/// [`Fixture`](crate::conformance::Fixture), or with an `Option` of one where a server may be
/// missing; it must be in scope where the macro stands. The crate that uses it needs `tokio` with
/// `macros` and `rt-multi-thread`.
///
/// [`StateStore`]: provision_core::store::StateStore
#[macro_export]
macro_rules! store_suite {
    ($factory:path) => {
        $crate::__suite_cases! { $factory; #[tokio::test]
            starting {
                a_started_run_is_stored_whole, the_same_key_and_input_answer_with_the_same_run,
                the_same_key_with_other_input_changes_nothing, the_same_key_for_another_saga_changes_nothing,
                a_repeated_start_finds_its_own_run,
                runs_without_a_key_are_all_new, the_key_of_an_ended_run_stays_known,
                a_start_can_be_leased_in_the_same_write,
                a_start_can_bring_its_first_frame,
                a_first_frame_is_not_written_without_its_lease,
                a_start_for_a_dead_incarnation_is_stored_unleased,
                a_batch_answers_each_submission_on_its_own,
                a_run_started_for_later_is_not_claimed_before,
            }
            guards {
                a_held_guard_answers_with_its_holder, a_freed_guard_can_be_taken_again,
                a_guard_is_freed_only_by_an_append_that_says_so, a_stale_append_frees_no_guard,
                a_known_key_comes_before_the_guard, an_old_holder_frees_nothing_twice,
                a_run_that_is_opened_again_takes_its_guard_again,
                a_guard_that_another_run_holds_keeps_a_run_closed,
            }
            journal {
                frames_come_back_in_order, a_gap_is_refused,
                a_taken_number_with_other_content_is_refused, an_exact_repeat_is_applied_once,
                an_exact_repeat_after_a_take_over_says_that_the_lease_is_lost,
                an_append_without_a_frame_changes_the_row_only,
                every_status_and_summary_is_kept, a_refused_append_changes_nothing,
                a_batch_answers_each_append_on_its_own, an_append_to_an_unknown_run_is_refused,
                empty_batches_are_answered_with_nothing,
            }
            histories { a_history_leaves_the_rows_that_memory_leaves }
            fencing {
                each_part_of_the_fence_is_compared,
                a_stale_owner_cannot_append_after_a_take_over,
                a_released_lease_cannot_append, epochs_grow_and_nonces_change,
                a_fence_opens_its_own_run_only,
            }
            leasing {
                a_due_run_is_leased_once, a_lease_carries_everything_stored, the_limit_is_kept,
                only_registered_sagas_are_leased, only_named_queues_are_leased,
                proposed_runs_are_judged_like_all_others, held_names_every_run_of_the_worker,
                peers_are_the_other_live_incarnations,
                next_due_is_the_earliest_claimable_moment, release_and_acquire_are_one_call,
                a_lease_is_seen_through_every_handle, the_clock_never_goes_back,
            }
            expiry {
                a_renewed_lease_lasts, an_expired_owners_run_is_taken_over,
                a_late_renewal_that_comes_first_is_accepted, a_dead_incarnation_is_never_renewed,
                all_runs_of_a_dead_incarnation_can_be_taken,
                deaths_count_with_an_open_attempt_only,
                deaths_are_counted_until_an_attempt_is_settled,
                the_next_owner_learns_when_the_lease_ended,
                a_dead_incarnation_is_forgotten_after_a_day,
                a_proven_death_frees_the_runs_at_once, a_worker_is_no_proof_of_its_own_death,
                retiring_gives_back_without_a_death, a_death_is_told_once,
            }
            release {
                a_released_run_waits_for_its_moment, a_run_that_is_never_due_is_not_claimed,
                a_release_by_lease_counts_alike, a_stale_release_is_passed_over,
                polls_are_kept_in_the_row, a_lease_that_nobody_heard_of_is_given_back,
                requests_that_cannot_be_taken_are_kept,
            }
            requests {
                requests_are_numbered_and_kept_in_order, a_request_makes_a_waiting_run_due,
                a_request_moves_parked_and_ended_runs,
                a_request_during_the_lease_is_not_slept_through,
                consumed_requests_are_forgotten, an_append_tells_of_new_requests,
                a_request_to_an_unknown_run_is_refused, a_request_survives_a_take_over,
            }
            waking {
                a_waiting_run_is_woken, a_leased_run_is_due_at_its_release,
                parked_and_ended_runs_are_not_woken, an_append_starts_runs_once,
                a_stale_append_starts_nothing,
            }
            retention {
                only_runs_that_are_over_and_rest_are_removed,
                nothing_that_may_exist_is_forgotten, what_a_worker_saw_too_late_keeps_its_run,
                everything_of_a_run_goes_with_it, the_key_of_a_removed_run_stays_known,
                orders_to_a_removed_run_learn_what_it_was, a_dead_letter_stays_until_somebody_says_so,
                steps_are_bounded_and_go_on_where_they_stopped, a_long_journal_ends_a_step,
                a_parent_goes_before_its_children_and_not_without_them,
                a_dry_run_changes_nothing, a_removed_run_is_removed_once,
                what_may_stand_is_removed_on_request_only,
                a_child_keeps_its_parent_as_it_keeps_itself, nothing_is_entered_for_a_removed_run,
                a_sighting_outlives_its_run, a_step_ends_after_so_many_looks,
                a_family_is_looked_at_as_a_whole_and_may_be_too_large,
                a_forgotten_key_starts_anew, the_last_key_of_a_range_is_told,
                retention_stays_inside_its_namespace,
            }
            sealing {
                an_append_seals_with_its_frame, a_sealed_value_is_not_replaced_by_an_append,
            }
            ledger_rows {
                rows_are_put_whole_and_replaced_whole, two_runs_cannot_hold_the_same_live_name,
                a_conflict_inside_one_batch_is_found,
                a_name_is_free_when_its_resource_is_gone,
                only_created_rows_of_one_account_and_kind_collide,
                a_run_does_not_collide_with_itself,
                each_query_filter_selects_by_its_own_field,
                query_pages_are_ordered_and_complete,
                a_sighting_is_kept_once_and_changes_no_run,
                rows_are_entered_but_not_into_a_run_under_way,
                rows_are_entered_into_runs_that_stand_still,
                what_is_being_removed_may_be_told_gone_while_its_run_is_under_way,
            }
            watch {
                a_row_is_claimed_by_one_worker_at_a_time, a_claim_keeps_its_limit,
                a_watch_is_ended_by_its_claim_only, a_removal_belongs_to_who_holds_it,
            }
            listing {
                the_newest_run_comes_first, pages_are_complete,
                each_filter_selects_by_its_own_field, runs_are_found_by_their_due_time, a_freed_guard_lists_nobody,
                dead_letters_are_what_needs_a_person, loads_answer_in_order,
                a_listed_row_equals_the_loaded_one,
            }
            namespaces {
                runs_are_out_of_reach_elsewhere, keys_and_ids_mean_nothing_elsewhere,
                wakes_stay_inside, incarnations_belong_to_one_namespace,
                the_ledger_is_out_of_reach_elsewhere,
            }
            values {
                big_frames_and_long_journals_are_kept, inputs_are_kept_as_written,
                names_are_text_and_nothing_more,
            }
            fairness {
                higher_priority_comes_first, the_oldest_due_run_comes_first, tenants_take_turns,
                newer_runs_do_not_starve_the_oldest,
            }
            capping {
                a_capped_queue_is_leased_up_to_its_cap, a_full_queue_holds_back_no_other,
                what_was_leased_without_a_cap_takes_a_place,
                the_runs_of_the_dead_hold_their_places_until_their_lease_is_over,
                each_queue_of_a_kind_has_a_cap_of_its_own, proposed_runs_keep_to_the_cap,
                order_and_turns_hold_under_a_cap, a_cap_counts_its_own_namespace,
            }
        }
        $crate::__suite_cases! { $factory;
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            concurrency {
                a_hundred_starts_of_one_key_make_one_run, one_of_many_takes_the_guard,
                workers_never_share_a_run, racing_appends_leave_one_order,
                concurrent_requests_are_numbered_without_gaps, one_of_many_gets_the_name,
                dying_writers_leave_every_journal_whole,
                requests_racing_with_releases_are_found, claimants_never_pass_a_cap,
                starts_racing_with_a_removal_make_no_second_run,
                what_meets_a_removal_keeps_the_run_or_learns_of_it,
            }
        }
    };
}

/// Expands to one `#[tokio::test]` for each case a [`Queue`](provision_core::queue::Queue) must
/// pass that is the store itself; see [`store_suite!`](crate::store_suite).
#[macro_export]
macro_rules! queue_suite {
    ($factory:path) => {
        $crate::queue_beside_suite! { $factory }
        $crate::__suite_cases! { $factory; #[tokio::test]
            figures { figures_tell_runs_whose_lease_is_over, }
            deaths {
                a_dead_workers_runs_are_proposed, the_end_of_a_lease_ends_the_wait,
                a_dead_worker_that_holds_nothing_ends_no_wait,
            }
        }
    };
}

/// Expands to one `#[tokio::test]` for each case that every [`Queue`](provision_core::queue::Queue)
/// must pass, also one beside the store; see [`store_suite!`](crate::store_suite).
#[macro_export]
macro_rules! queue_beside_suite {
    ($factory:path) => {
        $crate::__suite_cases! { $factory; #[tokio::test]
            proposing {
                a_due_run_is_proposed, a_later_run_is_not_proposed_before,
                proposals_keep_the_limit, proposals_keep_to_the_named_queues,
                proposals_come_by_priority, a_run_proposed_three_times_is_leased_once,
                a_lost_proposal_is_found_by_the_store, an_unleased_proposal_comes_again,
                an_ended_run_is_not_proposed, an_offer_moves_the_due_time,
                unknown_runs_are_no_trouble, figures_count_ready_and_delayed_runs,
                a_queue_that_is_excepted_is_passed_over,
                a_released_run_is_proposed_when_it_is_due,
            }
            waiting {
                a_claim_ends_with_its_wait, a_claim_that_finds_something_does_not_wait,
                an_offer_ends_the_wait, a_due_time_ends_the_wait,
                a_cancelled_claim_loses_nothing,
            }
        }
    };
}

/// Expands to one `#[tokio::test]` for each case a [`Limiter`](provision_core::limit::Limiter)
/// must pass that is the store itself; see [`store_suite!`](crate::store_suite).
#[macro_export]
macro_rules! limiter_suite {
    ($factory:path) => {
        $crate::limiter_beside_suite! { $factory }
        $crate::__suite_cases! { $factory; #[tokio::test]
            lives { slots_die_with_their_incarnation, slots_of_the_forgotten_are_free, }
        }
    };
}

/// Expands to one `#[tokio::test]` for each case that every
/// [`Limiter`](provision_core::limit::Limiter) must pass, also one beside the store; see
/// [`store_suite!`](crate::store_suite).
#[macro_export]
macro_rules! limiter_beside_suite {
    ($factory:path) => {
        $crate::__suite_cases! { $factory; #[tokio::test]
            admission {
                a_bucket_without_limits_grants_all, a_burst_is_granted_and_then_a_moment_named,
                the_named_moment_is_kept, a_pause_is_kept_and_never_shortened,
                the_providers_own_count_is_kept, failing_calls_open_the_breaker,
                buckets_are_independent,
            }
            namespaces { buckets_belong_to_one_namespace, }
        }
        $crate::__suite_cases! { $factory;
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            shared_limits {
                a_rate_is_shared_by_all_handles, a_pause_is_shared_at_once,
                slots_are_counted_over_all_workers,
                a_slot_freed_twice_counts_once, concurrent_asks_are_never_over_issued,
                what_a_provider_bears_is_found_out_by_all_handles,
            }
        }
    };
}

/// Expands to one `#[tokio::test]` for each case a
/// [`SecretStore`](provision_core::secret::SecretStore) must pass; see
/// [`store_suite!`](crate::store_suite).
#[macro_export]
macro_rules! secrets_suite {
    ($factory:path) => {
        $crate::__suite_cases! { $factory;
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            sealed_values {
                a_value_comes_back_byte_for_byte, the_first_put_stays, concurrent_puts_agree,
                replacing_compares_with_the_present_value, erased_values_are_gone,
                keys_come_in_order_and_pages,
            }
            namespaces { sealed_values_are_out_of_reach_elsewhere, }
        }
    };
}

/// The four suites of a store that is everything: state, queue, limiter and secrets, each in a module
/// of its own. The factory is a path that begins with `crate`.
#[macro_export]
macro_rules! backend_suite {
    ($factory:path) => {
        mod store {
            $crate::store_suite!($factory);
        }
        mod queue {
            $crate::queue_suite!($factory);
        }
        mod limiter {
            $crate::limiter_suite!($factory);
        }
        mod secrets {
            $crate::secrets_suite!($factory);
        }
    };
}

/// Names the cases of some groups; a case that nobody names is found by this crate's own tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __suite_cases {
    ($factory:path; #[$test:meta] $($group:ident { $($case:ident),* $(,)? })*) => {
        $($crate::__suite_group! { $factory; #[$test] $group { $($case),* } })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __suite_group {
    ($factory:path; #[$test:meta] $group:ident { $($case:ident),* }) => {
        mod $group {
            #[allow(
                unused_imports,
                clippy::wildcard_imports,
                reason = "the factory may be named relative to the place of the macro"
            )]
            use super::*;

            $(
                #[$test]
                async fn $case() {
                    use $crate::conformance::Given as _;
                    let Some(fixture) = $factory().await.given() else { return };
                    $crate::conformance::$group::$case(fixture).await;
                }
            )*
        }
    };
}
