package hakmemhttp

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// access says who may see the page: by default whoever is on this machine, under a name of this machine.
type access struct {
	hosts map[string]bool // further names, in lower case
}

// newAccess returns the access for the given further names.
func newAccess(hosts []string) (a access, err error) {
	for _, host := range hosts {
		if host == "" || host != nameOf(host) && !isIPv6(host) || strings.ContainsAny(host, "/ *") {
			return a, fmt.Errorf("the name %q in Hosts is none: write a host name or an IP address without port, as in example.org or 10.0.0.7", host)
		}
		if a.hosts == nil {
			a.hosts = map[string]bool{}
		}
		a.hosts[strings.ToLower(strings.Trim(host, "[]"))] = true
	}
	return a, nil
}

func isIPv6(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Is6()
}

// check returns an error that says why the request is refused.
//
// A browser sends in Host the name that the user's page asked for. A page from elsewhere can make a name of its
// own point to this machine, but cannot make the browser send another name.
func (a access) check(r *http.Request) error {
	host := nameOf(r.Host)
	switch {
	case a.hosts[strings.ToLower(host)]:
		return nil
	case !isLoopback(host):
		return fmt.Errorf("the host %q is not served: use localhost, or name the host in Options.Hosts", host)
	case !isLocal(r):
		return fmt.Errorf("only programs on the same machine are served, not %s: name the hosts to be served in Options.Hosts", r.RemoteAddr)
	}
	return nil
}

// nameOf returns a Host without its port and without the brackets of an IPv6 address.
func nameOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// isLoopback reports whether a name stands for the machine that uses it. RFC 6761 says that localhost and names
// that end with it do.
func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// isLocal reports whether the client is on this machine: it came by a loopback address or a Unix socket.
func isLocal(r *http.Request) bool {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && at.Network() == "unix" {
		return true
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && at.Addr().Unmap().IsLoopback()
}
