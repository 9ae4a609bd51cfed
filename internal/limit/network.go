package limit

import "net/netip"

// Network is the network of an address that counts as one: of IPv4 as many bits
// as bits4 says, of IPv6 the /56 that many providers give a customer. Who has more
// than that, such as a /48, counts as several. No address is a network, too.
func Network(address netip.Addr, bits4 int) netip.Prefix {
	bits := 56
	if address = address.Unmap(); address.Is4() {
		bits = bits4
	}
	network, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
