/* Authenticates a KPOP client with krb5_recvauth of MIT's library. The connection is
 * standard input. Writes the client's principal and exits with 0 if the client is
 * authenticated; the server's greeting comes next on the connection. */
#include <fcntl.h>
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>

static void check(krb5_context context, krb5_error_code code, const char *what)
{
    if (code) {
        fprintf(stderr, "%s: %s\n", what, krb5_get_error_message(context, code));
        exit(1);
    }
}

int main(void)
{
    krb5_context context;
    krb5_auth_context auth = NULL;
    krb5_principal server;
    krb5_ticket *ticket;
    char *name;
    int connection = 0;
    int flags = fcntl(connection, F_GETFL);

    /* The test shares the connection's flags and needs O_NONBLOCK, so restore them at
     * the end. */
    fcntl(connection, F_SETFL, flags & ~O_NONBLOCK);
    check(NULL, krb5_init_context(&context), "krb5_init_context");
    check(context, krb5_sname_to_principal(context, "localhost", "pop", KRB5_NT_SRV_HST, &server), "krb5_sname_to_principal");
    check(context, krb5_recvauth(context, &auth, &connection, "KPOPV1.0", server, 0, NULL, &ticket), "krb5_recvauth");
    check(context, krb5_unparse_name(context, ticket->enc_part2->client, &name), "krb5_unparse_name");
    printf("%s", name);
    fcntl(connection, F_SETFL, flags);
    return 0;
}
