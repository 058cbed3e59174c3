"""What contacts of the generated centre can be about: nine lines of business with four intents and five products each.

The centre answers for several companies, so that its work is as broad as real work. Everything else that shapes a need
(cause, circumstance, what was tried, the wish) is shared by all intents: whoever is good with bereaved customers is so
whatever they call about. Keys are those of the phrase files in `languages/`.
"""

from __future__ import annotations

DOMAINS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "telecom": (
        "connections",
        ("internet_down", "slow_internet", "roaming_charge", "change_plan"),
        ("fibre_line", "mobile_contract", "prepaid_card", "tv_box", "landline"),
    ),
    "bank": (
        "money",
        ("access_blocked", "unknown_payment", "transfer_missing", "loan_question"),
        ("debit_card", "credit_card", "savings_account", "joint_account", "business_account"),
    ),
    "retail": (
        "goods",
        ("refund_missing", "return_item", "wrong_item", "discount_code"),
        ("running_shoes", "sofa", "laptop", "coffee_machine", "gift_card"),
    ),
    "travel": (
        "money",
        ("cancel_booking", "change_booking", "lost_baggage", "delay_compensation"),
        ("flight", "hotel_stay", "car_rental", "train_journey", "package_holiday"),
    ),
    "insurance": (
        "money",
        ("report_claim", "claim_status", "change_cover", "premium_increase"),
        ("car_insurance", "home_insurance", "travel_insurance", "dental_insurance", "liability_insurance"),
    ),
    "energy": (
        "connections",
        ("high_bill", "meter_reading", "move_home", "power_cut"),
        ("electricity", "gas", "heat_pump", "solar_panels", "charging_station"),
    ),
    "software": (
        "connections",
        ("login_problem", "app_crash", "cancel_subscription", "lost_data"),
        ("photo_app", "accounting", "video_service", "password_manager", "cloud_storage"),
    ),
    "delivery": (
        "goods",
        ("parcel_late", "parcel_damaged", "change_address", "courier_complaint"),
        ("express_parcel", "groceries", "furniture", "registered_letter", "meal_box"),
    ),
    "devices": (
        "goods",
        ("warranty_repair", "setup_help", "device_stops", "spare_part"),
        ("washing_machine", "phone", "smart_watch", "printer", "robot_vacuum"),
    ),
}
"""Line of business → (queue of the legacy system, intents, products)."""

QUEUES = ("connections", "money", "goods")
INTENTS = tuple(intent for _, intents, _ in DOMAINS.values() for intent in intents)
PRODUCTS = tuple(product for _, _, products in DOMAINS.values() for product in products)
PER_INTENT = 5
"""Products that each intent can be about: those of its line of business."""

INTENT_DOMAIN = tuple(d for d, (_, intents, _) in enumerate(DOMAINS.values()) for _ in intents)
DOMAIN_QUEUE = tuple(QUEUES.index(queue) for queue, _, _ in DOMAINS.values())

SLOTS: dict[str, tuple[str, ...]] = {
    "cause": (
        "after_update",
        "error_message",
        "wrong_details",
        "promised",
        "happened_twice",
        "partner_blames",
        "paperwork",
        "wrong_amount",
        "no_confirmation",
        "security_code",
    ),
    "circumstance": (
        "abroad",
        "business",
        "for_parent",
        "bereavement",
        "impaired",
        "new_customer",
        "short_of_money",
        "lost_phone",
    ),
    "tried": (
        "nothing",
        "restarted",
        "chatbot",
        "emailed",
        "called",
        "visited",
        "followed_guide",
        "sent_documents",
    ),
    "goal": ("refund", "explanation", "callback", "written", "exception", "replacement", "leave"),
}
"""What shapes a need besides intent and product, shared by all intents."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "after_update": ("telecom", "bank", "energy", "software", "devices"),
    "restarted": ("telecom", "energy", "software", "devices"),
    "replacement": ("telecom", "bank", "retail", "delivery", "devices"),
}
"""Values that make sense in some lines of business only: nobody restarts an insurance."""

TONES = ("calm", "annoyed", "furious")
URGENCIES = ("relaxed", "soon", "now")
HARDNESS = ("easy", "hard")
STYLES = ("formal", "terse", "chatty")
CHANNELS = ("chat", "phone", "email", "callback")
CHATTER = 16
"""Asides that every language has."""
SITES = ("Leeds", "Valencia", "Leipzig")
