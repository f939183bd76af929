//! What a simulated Hetzner sells: locations, server types, images and their prices. Names as of
//! October 2026; the prices are made up.

use serde_json::{Value, json};

/// Location, city, country, network zone.
const LOCATIONS: &[(&str, &str, &str, &str)] = &[
    ("fsn1", "Falkenstein", "DE", "eu-central"),
    ("nbg1", "Nuremberg", "DE", "eu-central"),
    ("hel1", "Helsinki", "FI", "eu-central"),
    ("ash", "Ashburn, VA", "US", "us-east"),
];

/// Type, architecture, cores, memory, disk, cents a month.
const TYPES: &[(&str, &str, u64, u64, u64, u64)] = &[
    ("cx23", "x86", 2, 4, 40, 349),
    ("cx33", "x86", 4, 8, 80, 549),
    ("cpx22", "x86", 2, 4, 80, 649),
    ("cax11", "arm", 2, 4, 40, 379),
];

const IMAGES: &[(&str, &str, &str)] = &[
    ("debian-13", "debian", "13"),
    ("debian-12", "debian", "12"),
    ("ubuntu-24.04", "ubuntu", "24.04"),
];

const SINCE: &str = "2026-01-01T00:00:00Z";

pub(super) fn zone(location: &str) -> Option<&'static str> {
    LOCATIONS.iter().find(|(name, ..)| *name == location).map(|(.., zone)| *zone)
}

pub(super) fn is_type(name: &str) -> bool {
    TYPES.iter().any(|(known, ..)| *known == name)
}

/// Disk of a type, which never shrinks.
pub(super) fn disk(name: &str) -> u64 {
    TYPES.iter().find(|(known, ..)| *known == name).map_or(0, |(_, _, _, _, disk, _)| *disk)
}

pub(super) fn is_image(name: &str) -> bool {
    IMAGES.iter().any(|(known, ..)| *known == name)
}

pub(super) fn location(name: &str) -> Value {
    let at = LOCATIONS.iter().position(|(known, ..)| *known == name).unwrap_or_default();
    let (city, country, zone) = LOCATIONS.get(at).map_or(("", "", ""), |l| (l.1, l.2, l.3));
    json!({
        "id": at + 1, "name": name, "description": format!("{city} DC Park"), "city": city,
        "country": country, "latitude": 50.0, "longitude": 12.0, "network_zone": zone,
    })
}

pub(super) fn server_type(name: &str) -> Value {
    let at = TYPES.iter().position(|(known, ..)| *known == name).unwrap_or_default();
    let (architecture, cores, memory, disk) =
        TYPES.get(at).map_or(("x86", 0, 0, 0), |t| (t.1, t.2, t.3, t.4));
    let locations: Vec<Value> = LOCATIONS
        .iter()
        .enumerate()
        .map(|(at, (name, ..))| {
            json!({ "id": at + 1, "name": name, "deprecation": null, "available": true,
                    "recommended": true })
        })
        .collect();
    json!({
        "id": at + 100, "name": name, "description": name.to_uppercase(), "cores": cores,
        "memory": memory, "disk": disk, "architecture": architecture, "cpu_type": "shared",
        "storage_type": "local", "deprecated": false, "deprecation": null,
        "locations": locations, "prices": prices(name),
    })
}

pub(super) fn image(name: &str) -> Value {
    let at = IMAGES.iter().position(|(known, ..)| *known == name).unwrap_or_default();
    let (flavor, version) = IMAGES.get(at).map_or(("unknown", ""), |i| (i.1, i.2));
    json!({
        "id": at + 500, "name": name, "description": name, "architecture": "x86",
        "bound_to": null, "created": SINCE, "created_from": null, "deleted": null,
        "deprecated": null, "disk_size": 5, "image_size": null, "labels": {},
        "os_flavor": flavor, "os_version": version, "protection": { "delete": false },
        "rapid_deploy": true, "status": "available", "type": "system",
    })
}

fn price(nano: u64) -> Value {
    let text = |nano: u64| format!("{}.{:09}0", nano / 1_000_000_000, nano % 1_000_000_000);
    json!({ "net": text(nano), "gross": text(nano + nano * 19 / 100) })
}

fn prices(name: &str) -> Vec<Value> {
    let cents = TYPES.iter().find(|(known, ..)| *known == name).map_or(0, |t| t.5);
    let monthly = cents * 10_000_000;
    let at = |(place, ..): &(&str, &str, &str, &str)| {
        json!({
            "location": place, "included_traffic": 20_000_000_000_000_u64,
            "price_hourly": price(monthly / 624), "price_monthly": price(monthly),
            "price_per_tb_traffic": price(1_000_000_000),
        })
    };
    LOCATIONS.iter().map(at).collect()
}

pub(super) fn pricing() -> Value {
    let types: Vec<Value> = TYPES
        .iter()
        .enumerate()
        .map(|(at, (name, ..))| json!({ "id": at + 100, "name": name, "prices": prices(name) }))
        .collect();
    let ip = |kind: &str, nano: u64| {
        let at = |(place, ..): &(&str, &str, &str, &str)| json!({ "location": place, "price_hourly": price(nano / 624), "price_monthly": price(nano) });
        json!({ "type": kind, "prices": LOCATIONS.iter().map(at).collect::<Vec<_>>() })
    };
    json!({
        "currency": "EUR", "vat_rate": "19.00",
        "floating_ip": { "price_monthly": price(3_000_000_000) },
        "floating_ips": [],
        "image": { "price_per_gb_month": price(11_000_000) },
        "load_balancer_types": [],
        "primary_ips": [ip("ipv4", 500_000_000), ip("ipv6", 0)],
        "server_backup": { "percentage": "20.00" },
        "server_types": types,
        "volume": { "price_per_gb_month": price(44_000_000) },
    })
}
