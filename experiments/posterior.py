"""``vje posterior``."""

from vje_pyro.experiments.common import HERE, Results, Run, Where, print_results


def main(
    run: Run,
    /,
    *,
    images: int = 10_000,
    latents: int = 64,
    steps: int = 400,
    split: str = "test",
    seed: int = 0,
    results: Results = None,
    where: Where = HERE,
) -> None:
    """Fit and check the joint posterior: one latent for all views of an image.

    Model and guide (vje_pyro.models.ManyViews) are fitted to embeddings of the training images'
    views, and stored in the run for run.joint_posterior(images). The checks use other images;
    their result is RUN/results/many-views-v2.json.

    Examples::

        vje posterior runs/digits

    Args:
        images: Largest number of training images.
        latents: Dimension of z.
        steps: Number of Adam steps.
        split: Split for the checks.
        seed: Random seed of images, views and the fit.
    """
    loaded = where.load(run)
    from vje_pyro.errors import explained
    from vje_pyro.joint_posterior import PROTOCOL, check_joint_posterior, fit_joint_posterior
    from vje_pyro.verbs.partial import output_folder

    folder = output_folder(loaded.directory.results, results)
    with explained("the joint posterior cannot be fitted"):
        fit_joint_posterior(loaded, images, latents, seed, num_steps=steps)
    result = check_joint_posterior(loaded, split, seed=seed)
    result.write(folder / f"{PROTOCOL}.json")
    print_results([result])
    print(f"results in {folder}")
