package app

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/patch"
)

// outboundTime bounds one fetch of a URL that somebody gave.
const outboundTime = time.Minute

// Outbound is an HTTP client for URLs that come from the configuration. It
// connects to no private address, unless trees on this machine are allowed.
func (a *App) Outbound() *http.Client { return outbound(a.Config.LocalGit) }

// Patches fetches what people name as patches: from the hosts that the
// configuration allows, and from no private address unless it allows that too.
func (a *App) Patches() *patch.Source {
	return patch.NewSource(a.Config.PatchHosts, outbound(a.Config.PrivatePatches))
}

// outbound is a client that keeps away from private addresses unless they are
// allowed. The address is checked after the name was resolved, at each redirect
// too.
func outbound(private bool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !private {
		dialer.Control = onlyPublic
	}
	return &http.Client{
		Timeout:   outboundTime,
		Transport: &http.Transport{DialContext: dialer.DialContext, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 10, IdleConnTimeout: time.Minute},
	}
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func onlyPublic(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.Join(errs.New(errs.Invalid, "address %s", address), err)
	}
	ip := to.Addr().Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || carrierNAT.Contains(ip) {
		return errs.New(errs.Denied, "address %s is not public", ip)
	}
	return nil
}
