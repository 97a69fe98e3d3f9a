//! What users do on a mixed day, how often, and when. Pure.

use std::f64::consts::PI;

/// One kind of thing that users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A message to a friend.
    Direct,
    /// A message to a room of a few.
    SmallRoom,
    /// A message to a room of many, by one of those who speak there.
    BigRoom,
    /// All of a conversation is marked as read.
    Read,
    /// All of a conversation is marked as delivered.
    Delivered,
    /// Begins to type.
    Typing,
    /// Twenty messages of the past.
    History,
    /// Another user's profile, by REST.
    Profile,
    /// A page of a room's members, by REST.
    Members,
    /// Asks how some users are, and to be told.
    Presence,
    /// Loses the connection, and comes back.
    Reconnect,
    /// Goes offline, and another user comes.
    Churn,
}

/// The blend: of a hundred deeds, how many are of each kind. Chosen, not taken from anybody's logs: half is messages,
/// nearly a third is what clients send by themselves for what they receive, the rest is looking things up and coming
/// and going. A server that refuses a kind is seen to in the report, which counts what was refused.
pub(super) const BLEND: [(Deed, &str, f64); 12] = [
    (Deed::Direct, "direct message", 28.0),
    (Deed::SmallRoom, "small room message", 18.0),
    (Deed::BigRoom, "big room message", 2.0),
    (Deed::Read, "read receipt", 18.0),
    (Deed::Delivered, "delivered receipt", 10.0),
    (Deed::Typing, "typing", 8.0),
    (Deed::History, "history", 4.0),
    (Deed::Profile, "profile by REST", 3.0),
    (Deed::Members, "member list by REST", 1.0),
    (Deed::Presence, "presence", 2.0),
    (Deed::Reconnect, "reconnect", 3.0),
    (Deed::Churn, "goes, another comes", 3.0),
];

/// Of the users, how many are online at night, and how many more at noon.
const ONLINE_AT_NIGHT: f64 = 0.3;
const MORE_AT_NOON: f64 = 0.6;
/// The rate at night, as a part of that at noon.
const RATE_AT_NIGHT: f64 = 0.2;

/// The deed that a number in 0..1 stands for: its place in the blend.
pub(super) fn deed_at(share: f64) -> usize {
    let mut left = share * BLEND.iter().map(|(_, _, weight)| weight).sum::<f64>();
    for (place, (_, _, weight)) in BLEND.iter().enumerate() {
        if left < *weight {
            return place;
        }
        left -= weight;
    }
    BLEND.len() - 1
}

/// How much of noon it is, 0 to 1, after so much of the day: both of its ends are night.
fn light(part_of_day: f64) -> f64 {
    (PI * part_of_day.clamp(0.0, 1.0)).sin().powi(2)
}

/// The part of noon's rate after so much of the day.
pub(super) fn rate_at(part_of_day: f64) -> f64 {
    RATE_AT_NIGHT + (1.0 - RATE_AT_NIGHT) * light(part_of_day)
}

/// The part of all users who are to be online after so much of the day.
pub(super) fn online_at(part_of_day: f64) -> f64 {
    ONLINE_AT_NIGHT + MORE_AT_NOON * light(part_of_day)
}

/// When the deeds of a day are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    /// Seconds of night before the day begins.
    pub(super) before: f64,
    /// Its length in seconds.
    pub(super) long: f64,
    /// Deeds a second at noon.
    pub(super) noon_rate: f64,
}

impl Day {
    /// How much of the day has passed, `seconds` after the start of the night before.
    pub(super) fn part(&self, seconds: f64) -> f64 {
        ((seconds - self.before) / self.long).clamp(0.0, 1.0)
    }

    /// When the deed behind one at `seconds` is due.
    pub(super) fn next(&self, seconds: f64) -> f64 {
        seconds + 1.0 / (self.noon_rate * rate_at(self.part(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blend_is_a_hundred_and_each_deed_gets_its_share() {
        assert!((BLEND.iter().map(|(_, _, weight)| weight).sum::<f64>() - 100.0).abs() < 1e-9);
        let mut counts = [0_u32; BLEND.len()];
        (0..10_000).for_each(|step| counts[deed_at(f64::from(step) / 10_000.0)] += 1);
        for (place, (deed, _, weight)) in BLEND.iter().enumerate() {
            let share = f64::from(counts[place]) / 100.0;
            assert!((share - weight).abs() < 0.1, "{deed:?} has {share} % and not {weight} %");
        }
        assert_eq!(deed_at(1.0), BLEND.len() - 1);
    }

    #[test]
    fn the_day_rises_from_a_fifth_to_noon_and_falls_back() {
        assert!((rate_at(0.0) - 0.2).abs() < 1e-9 && (rate_at(1.0) - 0.2).abs() < 1e-9);
        assert!((rate_at(0.5) - 1.0).abs() < 1e-9);
        assert!((rate_at(0.25) - 0.6).abs() < 1e-9, "half-way up");
        assert!((online_at(0.0) - 0.3).abs() < 1e-9 && (online_at(0.5) - 0.9).abs() < 1e-9);
        assert!((rate_at(7.0) - 0.2).abs() < 1e-9, "the night goes on");
    }

    #[test]
    fn a_day_has_as_many_deeds_as_its_curve_has_area() {
        let day = Day { before: 1.0, long: 10.0, noon_rate: 100.0 };
        let (mut at, mut in_day, mut in_noon) = (0.0, 0, 0);
        while at < 11.0 {
            in_day += u32::from(at >= 1.0);
            in_noon += u32::from((5.5..6.5).contains(&at));
            at = day.next(at);
        }
        // The mean of sin² is a half: 0.2 + 0.8 / 2.
        assert!((585..=615).contains(&in_day), "{in_day}");
        assert!((97..=101).contains(&in_noon), "{in_noon}");
    }
}
