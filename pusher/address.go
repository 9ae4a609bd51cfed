package pusher

import (
	"net/netip"
	"slices"
)

// forbidden are the addresses that no callback may lead to. Sources: the IANA
// special-purpose address registries (RFC 6890) and what clouds put their
// metadata at; prefixes that carry an IPv4 address inside are out as a whole.
var forbidden = prefixes(
	"0.0.0.0/8",         // this network
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // carrier-grade NAT; cloud metadata at 100.100.100.200
	"127.0.0.0/8",       // loopback
	"168.63.129.16/32",  // a cloud's platform service
	"169.254.0.0/16",    // link-local; cloud metadata at 169.254.169.254
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // IETF protocols
	"192.0.2.0/24",      // documentation
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"192.175.48.0/24",   // AS112
	"198.18.0.0/15",     // benchmarking
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, broadcast
	"::/96",             // unspecified, loopback, IPv4-compatible
	"::ffff:0:0:0/96",   // IPv4-translated (SIIT)
	"64:ff9b::/96",      // NAT64
	"64:ff9b:1::/48",    // NAT64 of a site
	"100::/64",          // discard
	"100:0:0:1::/64",    // dummy
	"2001::/23",         // IETF protocols: Teredo, benchmarking, ORCHID
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
	"5f00::/16",         // segment routing
	"fc00::/7",          // unique local; cloud metadata at fd00:ec2::254
	"fe80::/10",         // link-local
	"fec0::/10",         // site-local
	"ff00::/8",          // multicast
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// allowed tells whether the operator's list has the address.
func allowed(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// public tells whether the address is one of the open internet. An IPv4 address
// in the clothes of an IPv6 one is not, nor is one with a zone.
func public(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() &&
		!slices.ContainsFunc(forbidden, func(p netip.Prefix) bool { return p.Contains(a) })
}
