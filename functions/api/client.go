package api

import (
	"net"
	"net/netip"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Client is embedded by the inputs of routes that want to know where a request
// comes from.
type Client struct{ address string }

// Resolve implements huma.Resolver.
func (c *Client) Resolve(ctx huma.Context) []error {
	var forwarded string
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "X-Forwarded-For") {
			forwarded = value
		}
	})
	c.address = clientAddress(ctx.RemoteAddr(), forwarded)
	return nil
}

// clientAddress is the address that a client is counted by: that of the peer
// or, when that is in a private network and so a proxy, the one which the proxy
// has added to the header, which is the last. Of an IPv6 address the network
// counts, since one client has all of it.
func clientAddress(peer, forwarded string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = peer
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		parts := strings.Split(forwarded, ",")
		if added, err := netip.ParseAddr(strings.TrimSpace(parts[len(parts)-1])); err == nil {
			ip = added.Unmap()
		}
	}
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip.String()
	}
	return network.String()
}
