//! What every default channel and this simulator know of each other. Everybody may know them: they guard nothing but a
//! simulator, and no provider takes them.

/// Meta's access token, for WhatsApp and Instagram.
pub const ACCESS_TOKEN: &str = "simulated-access-token";
/// Signs Meta's callbacks.
pub const APP_SECRET: &str = "simulated-app-secret";
/// For the handshake of Meta's callbacks, which the simulator does not make.
pub const VERIFY_TOKEN: &str = "simulated-verify-token";
/// Telegram's, in the path of every call.
pub const BOT_TOKEN: &str = "700000001:simulated-bot-token";
/// Comes with Telegram's callbacks.
pub const SECRET_TOKEN: &str = "simulated-secret-token";
/// Our number at WhatsApp.
pub const PHONE_NUMBER_ID: &str = "100000000000001";
/// Our account at Instagram.
pub const INSTAGRAM_ACCOUNT_ID: &str = "17840000000000001";
