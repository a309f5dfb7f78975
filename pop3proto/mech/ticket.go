package mech

import (
	"cmp"
	"errors"
	"regexp"
	"strconv"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/krberror"
)

// TicketError means that there is no Kerberos ticket to log in with.
type TicketError struct {
	Err       error
	hint      string
	temporary bool
}

// Error returns the cause, without gokrb5's prefixes.
func (e *TicketError) Error() string { return gokrb5Prefix.ReplaceAllString(e.Err.Error(), "") }

// gokrb5Prefix matches what gokrb5 puts before its errors, and before those of a KDC.
var gokrb5Prefix = regexp.MustCompile(`\[Root cause: \w+\] (KDC_Error: .*KRB Error: )?`)

// Unwrap returns the cause.
func (e *TicketError) Unwrap() error { return e.Err }

// Hint returns what the user can do about it.
func (e *TicketError) Hint() string { return e.hint }

// Temporary reports whether the cause may go away without the user: the KDC did not
// reply.
func (e *TicketError) Temporary() bool { return e.temporary }

// errCache and errKeytab match errors of the file, and begin their text.
var (
	errCache  = errors.New("the credential cache")
	errKeytab = errors.New("the keytab")
)

// kdcRefusal matches the text of a KRB-ERROR, since gokrb5 does not keep its type.
var kdcRefusal = regexp.MustCompile(`KRB Error: \((\d+)\)`)

func newTicketError(err error) error {
	e := &TicketError{Err: err, hint: "check krb5.conf: the realm and its KDCs"}
	if root, ok := errors.AsType[krberror.Krberror](err); ok && root.RootCause == krberror.NetworkingError || errors.Is(err, errKDC) {
		e.temporary, e.hint = true, "the KDC did not answer: check krb5.conf and the network"
	}
	if errors.Is(err, errCache) {
		e.hint = "run kinit, or name a keytab"
	}
	if errors.Is(err, errKeytab) {
		e.hint = "check keytab, or make the keytab anew"
	}
	if m := kdcRefusal.FindStringSubmatch(err.Error()); m != nil {
		code, _ := strconv.ParseInt(m[1], 10, 32)
		e.temporary, e.hint = false, cmp.Or(KerberosHint(int32(code)), "the KDC refuses it: ask who runs it")
	}
	return e
}

// KerberosHint returns what the user can do about a Kerberos error with that code
// (RFC 4120 §7.5.9), or "".
func KerberosHint(code int32) string {
	switch code {
	case errorcode.KRB_AP_ERR_SKEW, errorcode.KDC_ERR_CANNOT_POSTDATE, errorcode.KRB_AP_ERR_TKT_NYV:
		return "this machine's clock and the server's differ by too much: set them"
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		return "the realm does not know the user: check user and keytab"
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return "the realm does not know the server: server must be the name by which it has a key"
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		return "the key in the keytab is not the user's: make the keytab anew"
	case errorcode.KRB_AP_ERR_TKT_EXPIRED:
		return "the ticket has expired: run kinit, or name a keytab"
	case errorcode.KRB_AP_ERR_MODIFIED, errorcode.KRB_AP_ERR_BADKEYVER, errorcode.KRB_AP_ERR_NOKEY, errorcode.KRB_AP_ERR_NOT_US, errorcode.KRB_AP_ERR_BAD_INTEGRITY:
		return "the server cannot read tickets for it: tell its operator that its keytab is not what the KDC has"
	}
	return ""
}
