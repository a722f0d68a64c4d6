/* Run with: cc -std=c11 -Wall -I sdk/plugins/sdk-c test_transform.c -o target/test && target/test */
#include "transform.c"

#include <assert.h>

int main(void) {
    struct features_out out = {0};
    struct features_in order = {.price = 12.5, .quantity = 2, .null.coupon = true};
    assert(features(&order, &out) == GM_ROW);
    assert(out.total == 25.0 && !out.discounted);

    struct features_in nothing = {.price = 1.0, .quantity = 0};
    assert(features(&nothing, &out) == GM_REFUSED);
    assert(gm_equal(gm_last_reason(), "quantity is 0; at least 1 is right"));
    return 0;
}
