package oauth

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// words are all that pages say in one language. Those with a verb of package
// fmt in them take the name of an app.
type words struct {
	// Tag is the language's (BCP 47); OtherTag and OtherName are those of the
	// one that the page offers instead.
	Tag, OtherTag, OtherName string
	// Date is a layout of package time.
	Date string
	// Comma stands between the parts of a list.
	Comma string

	Platform, Language, Sandbox string

	Merchant, ISV string // kinds of app

	LogInTitle, LogInFor, LogInGrants   string
	LogInDevice, LogInStart             string
	Login, Password, LogIn              string
	WrongPassword, LockedOut            string
	LogOutTitle, LogOutText, LogOut     string
	LoggedOutTitle, LoggedOutText       string
	StillAt, LogOutThere, TryAgain      string
	NotLoggedInTitle, NotLoggedInText   string
	AsksAccess, Shop, SwitchAccount     string
	ItMay, Basic, BasicText             string
	Until, ReturnTo, ThisDevice         string
	Approve, Deny, Revocable            string
	DeviceTitle, DeviceText, UserCode   string
	Continue, WrongCode                 string
	Compare, YourDevice                 string
	DeviceDoneTitle, DeviceDoneText     string
	DeviceDenied, DeviceDeniedText      string
	MyGrants, NoGrants, Scopes, Since   string
	Open                                string
	Revoke, RevokeNow, Warning, Revoked string

	ForDevelopers string
	// Problems are what a page says about a mistake, by its code.
	Problems map[string]problem
}

// problem is a mistake in words for a merchant.
type problem struct{ Title, Text string }

// The codes of problems that the pages find themselves. Those of the
// authorization request are the core's.
const (
	problemExpiredForm = "form_expired"
	problemInsecure    = "https_required"
	problemForeign     = "foreign_form"
	problemUnavailable = "unavailable"
	problemNotFound    = "not_found"
	problemMethod      = "method_not_allowed"
	problemTooLarge    = "too_large"
	problemOther       = "invalid_request"
	problemProvider    = "provider_unavailable"
	problemLogIn       = "login_failed"
	problemDisabled    = "account_disabled"
)

// languages are those of the pages; the first one serves who asks for another.
var languages = []*words{&english, &chinese}

var english = words{ //nolint:gosec // G101: words, not credentials
	Tag: "en", OtherTag: "zh-CN", OtherName: "中文", Date: "2 January 2006", Comma: ", ",

	Platform: "Open platform", Language: "Language", Sandbox: "Sandbox",
	Merchant: "App of a merchant", ISV: "App of a software vendor",

	LogInTitle: "Log in", LogInFor: "%s asks for access to your shop. Log in to decide.",
	LogInGrants: "Log in to see which apps may act for your shop.",
	LogInDevice: "Log in to connect a device with your shop.",
	LogInStart:  "Log in to open %s.",
	Login:       "Login name", Password: "Password", LogIn: "Log in",
	WrongPassword: "Login name or password is wrong. Check both and try again.",
	LockedOut:     "There were too many attempts. Wait a while, then try again.",
	LogOutTitle:   "Log out?", LogOutText: "Apps that you authorized keep their access.", LogOut: "Log out",
	LoggedOutTitle: "You are logged out", LoggedOutText: "You can close this page.",
	StillAt: "You are logged out here, and may still be logged in at %s.", LogOutThere: "Log out there, too", TryAgain: "Begin again",
	NotLoggedInTitle: "You are not logged in",
	NotLoggedInText:  "Log in to the platform with your shop's account, then open this page again.",

	AsksAccess: "%s asks for access to your shop", Shop: "Your shop", SwitchAccount: "Use another account",
	ItMay: "If you agree, it can use", Basic: "Basic services", BasicText: "It learns which shop you are, and gets no further permissions.",
	Until: "Valid until", ReturnTo: "Then back to", ThisDevice: "the program on this device",
	Approve: "Authorize", Deny: "Deny", Revocable: "You can withdraw this at any time:",
	DeviceTitle: "Connect a device", DeviceText: "Type the code that the device shows. Capitals and the dash do not matter.",
	UserCode: "Code on the device", Continue: "Continue",
	WrongCode:       "No device waits with this code. Compare it with what the device shows; after ten minutes have it show another one.",
	Compare:         "Does the device in front of you show this code, and did you start this yourself? If somebody sent you the code or the link, deny.",
	YourDevice:      "the device that shows the code",
	DeviceDoneTitle: "The device is connected", DeviceDoneText: "%s may act for your shop now. Go on at the device; this page can be closed.",
	DeviceDenied: "The device was not connected", DeviceDeniedText: "%s got no access to your shop. This page can be closed.",
	MyGrants: "My authorizations", NoGrants: "No app has access to your shop.",
	Scopes: "Permissions", Since: "Since", Open: "Open the app",
	Revoke: "Withdraw …", RevokeNow: "Withdraw the authorization",
	Warning: "%s loses access to your shop at once. To use it again, authorize it anew.",
	Revoked: "Done: %s has no access to your shop any more.",

	ForDevelopers: "For the developer:",
	Problems: map[string]problem{
		problemExpiredForm:    {"This page has expired", "It was open for too long, or you logged in or out meanwhile. Start again."},
		problemInsecure:       {"This page needs HTTPS", "For the safety of your account it does not answer over an unencrypted connection. Open it with https://."},
		problemForeign:        {"This did not come from our page", "For the safety of your account we take such input only from our own pages. Start again from there."},
		problemUnavailable:    {"Not available right now", "Nothing was changed. Please try again in a moment."},
		problemNotFound:       {"There is no such page", "Check the address."},
		problemMethod:         {"That does not work here", "This address does not take such a request."},
		problemTooLarge:       {"That was too long", "What was sent is longer than any form of ours."},
		problemProvider:       {"Logging in is not possible right now", "The service that your account belongs to does not answer as it should. Nothing was changed. Please wait a moment, then begin the log-in again."},
		problemLogIn:          {"You are not logged in", "The service that your account belongs to did not confirm who you are. Nothing was authorized."},
		problemDisabled:       {"This account may not log in", "The platform has disabled it. Please ask the platform's operator."},
		"invalid_client":      {"There is no such app", "The link that brought you here names an app that we do not know. Nothing was authorized. Please tell its vendor."},
		"unauthorized_client": {"This app is suspended", "It may not ask for access at present. Nothing was authorized. Please ask its vendor."},
		"invalid_link":        {"This link does not work", "It has expired, or it is not complete. Start the app again from the app market."},
		"not_startable":       {"This app cannot be opened from here", "It is not made for the app market, or its vendor has not finished setting it up. Please ask its vendor."},
		problemOther:          {"The app's request is not right", "The app that sent you here made a mistake. Nothing was authorized. Please tell its vendor."},
	},
}

var chinese = words{ //nolint:gosec // G101: words, not credentials
	Tag: "zh-CN", OtherTag: "en", OtherName: "English", Date: "2006年1月2日", Comma: "、",

	Platform: "开放平台", Language: "语言", Sandbox: "沙箱环境",
	Merchant: "商家自研应用", ISV: "软件服务商应用",

	LogInTitle: "登录", LogInFor: "「%s」申请访问您的店铺，请登录后确认。",
	LogInGrants: "登录后可查看哪些应用能够访问您的店铺。",
	LogInDevice: "登录后即可将设备连接到您的店铺。",
	LogInStart:  "登录后即可打开「%s」。",
	Login:       "登录名", Password: "密码", LogIn: "登录",
	WrongPassword: "登录名或密码不正确，请核对后重试。",
	LockedOut:     "尝试次数过多，请稍后再试。",
	LogOutTitle:   "退出登录？", LogOutText: "您已授权的应用不受影响。", LogOut: "退出登录",
	LoggedOutTitle: "您已退出登录", LoggedOutText: "现在可以关闭此页面。",
	StillAt: "您已退出本平台，但在 %s 可能仍处于登录状态。", LogOutThere: "同时退出该账号", TryAgain: "重新开始",
	NotLoggedInTitle: "您尚未登录",
	NotLoggedInText:  "请先使用店铺账号登录平台，再重新打开此页面。",

	AsksAccess: "「%s」申请访问您的店铺", Shop: "您的店铺", SwitchAccount: "切换账号",
	ItMay: "授权后，该应用可以使用", Basic: "基础服务", BasicText: "识别您的店铺，不含其他权限。",
	Until: "有效期至", ReturnTo: "完成后返回", ThisDevice: "本设备上的程序",
	Approve: "同意授权", Deny: "拒绝", Revocable: "您可以随时取消授权：",
	DeviceTitle: "连接设备", DeviceText: "请输入设备上显示的代码，不区分大小写，可省略连字符。",
	UserCode: "设备上的代码", Continue: "继续",
	WrongCode:       "没有设备在等待此代码。请与设备上显示的代码核对；如已超过十分钟，请在设备上重新获取。",
	Compare:         "请核对：您面前的设备是否显示此代码，并且是您本人发起的操作？如果代码或链接是他人发给您的，请拒绝。",
	YourDevice:      "显示此代码的设备",
	DeviceDoneTitle: "设备已连接", DeviceDoneText: "「%s」现在可以访问您的店铺。请回到设备上继续，本页面可以关闭。",
	DeviceDenied: "设备未连接", DeviceDeniedText: "「%s」未获得您店铺的访问权限，本页面可以关闭。",
	MyGrants: "我的授权", NoGrants: "目前没有应用可以访问您的店铺。",
	Scopes: "权限", Since: "授权时间", Open: "打开应用",
	Revoke: "取消授权…", RevokeNow: "确认取消授权",
	Warning: "「%s」将立即无法访问您的店铺。如需继续使用，请重新授权。",
	Revoked: "已取消授权，「%s」不能再访问您的店铺。",

	ForDevelopers: "开发者信息：",
	Problems: map[string]problem{
		problemExpiredForm:    {"页面已过期", "页面打开时间过长，或您在此期间登录、退出过账号。请重新开始。"},
		problemInsecure:       {"请使用 HTTPS 访问", "为保障账号安全，本页面不支持未加密的连接，请使用 https:// 打开。"},
		problemForeign:        {"请求并非来自本站页面", "为保障账号安全，我们只接受从本站页面提交的内容，请从本站页面重新开始。"},
		problemUnavailable:    {"服务暂时不可用", "没有任何内容被更改，请稍后重试。"},
		problemNotFound:       {"页面不存在", "请检查网址是否正确。"},
		problemMethod:         {"不支持该操作", "此网址不支持这种请求方式。"},
		problemTooLarge:       {"提交的内容过长", "提交的内容超出了表单允许的长度。"},
		problemProvider:       {"暂时无法登录", "您的账号所属的登录服务没有正常响应，没有任何内容被更改。请稍后重新开始登录。"},
		problemLogIn:          {"您尚未登录", "您的账号所属的登录服务没有确认您的身份，没有进行任何授权。"},
		problemDisabled:       {"该账号不能登录", "该账号已被平台停用，请联系平台运营方。"},
		"invalid_client":      {"应用不存在", "引导您来到这里的链接所指的应用不存在，没有进行任何授权。请联系该应用的服务商。"},
		"unauthorized_client": {"该应用已被暂停", "该应用目前不能申请授权，没有进行任何授权。请联系该应用的服务商。"},
		"invalid_link":        {"此链接无法使用", "链接已过期或不完整，请从应用市场重新打开该应用。"},
		"not_startable":       {"无法从这里打开该应用", "该应用不支持从应用市场打开，或其服务商尚未完成设置。请联系该应用的服务商。"},
		problemOther:          {"应用的授权请求有误", "引导您来到这里的应用发出了错误的请求，没有进行任何授权。请联系该应用的服务商。"},
	},
}

// problem is what to say about the code.
func (w *words) problem(code string) problem {
	if p, ok := w.Problems[code]; ok {
		return p
	}
	return w.Problems[problemOther]
}

const (
	languageParameter = "lang"
	languageCookie    = "__Host-op_lang"
)

// languageOf picks the language: the one asked for in the address, else the
// one that was asked for last, else the browser's (RFC 9110 section 12.5.4).
func languageOf(r *http.Request) *words {
	if w := languageNamed(r.URL.Query().Get(languageParameter)); w != nil {
		return w
	}
	if c, err := r.Cookie(languageCookie); err == nil {
		if w := languageNamed(c.Value); w != nil {
			return w
		}
	}
	return acceptedLanguage(r.Header.Get("Accept-Language"))
}

// rememberLanguage keeps the language that the address asks for.
func rememberLanguage(w http.ResponseWriter, r *http.Request) {
	if asked := languageNamed(r.URL.Query().Get(languageParameter)); asked != nil {
		http.SetCookie(w, &http.Cookie{
			Name: languageCookie, Value: asked.Tag, Path: "/", MaxAge: int((365 * 24 * time.Hour).Seconds()),
			Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
}

// languageNamed finds the language by its tag: zh, zh-TW, en-GB; or nil.
func languageNamed(tag string) *words {
	primary, _, _ := strings.Cut(tag, "-")
	for _, w := range languages {
		if own, _, _ := strings.Cut(w.Tag, "-"); strings.EqualFold(primary, own) {
			return w
		}
	}
	return nil
}

// acceptedLanguage reads Accept-Language. What cannot be read does not count.
func acceptedLanguage(header string) *words {
	const most = 20 // entries; browsers send a handful
	best, weight := languages[0], 0.0
	for i, entry := range strings.SplitN(header, ",", most+1) {
		tag, parameter, _ := strings.Cut(entry, ";")
		w := languageNamed(strings.TrimSpace(tag))
		if w == nil || i == most {
			continue
		}
		q := 1.0
		if value, found := strings.CutPrefix(strings.TrimSpace(parameter), "q="); found {
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		if q > weight {
			best, weight = w, q
		}
	}
	return best
}
