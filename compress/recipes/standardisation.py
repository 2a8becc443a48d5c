"""Logit standardisation, a step before the softmax of methods that match softened logits.

Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge Distillation", arXiv 2403.01427:

    Algorithm 1   Z(x; tau) = (x - mean(x)) / sigma(x) / tau
                  sigma(x)  = sqrt( 1/K sum_k (x_k - mean(x))^2 )
    Algorithm 2   the student minimises
                  lambda_CE L_CE(y, softmax(z)) + lambda_KD tau^2 L(softmax(Z(v)), softmax(Z(z)))

    z  [N, K]  student logits    v  [N, K]  teacher logits    K  classes    tau  base temperature

The student then has to find the teacher's order of the classes and their relative distances, not
the size of its logits. The labels' term sees the logits as they are.

The method's temperature is tau, and the factor tau^2 is the T^2 that the methods have already. The
paper's CIFAR-100 experiments take tau = 2, lambda_CE = 0.1 and lambda_KD = 9 (Table 4 tries 0.9 to
18): the large weight makes up for the gradient through Z, which is divided by sigma. The weights of
the method are not changed here.

The authors' code divides by the sample deviation, 1/(K-1), plus 1e-7. Here it is Algorithm 1's.
"""

from __future__ import annotations

from torch import Tensor

# Added to sigma^2, so that logits that are all alike give zeros and not 0/0.
TINY = 1e-14


def Z(x: Tensor) -> Tensor:
    """Algorithm 1 for each row of x [N, K]; the division by tau is left to the softmax."""
    centred = x - x.mean(dim=1, keepdim=True)
    sigma = (centred.square().mean(dim=1, keepdim=True) + TINY).sqrt()
    return centred / sigma
